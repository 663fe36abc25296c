"""What the output processor makes of tokens: ends, log-probabilities, merged deltas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.client.token_stream import TokenStream
from runtime.engines.base import SequenceOutput
from runtime.messages.request import RequestOutput, TokenLogprobs
from runtime.tokenizers.byte_tokenizer import ByteTokenizer
from runtime.worker.output import OutputProcessor
from tests.kit.chat.cuts import cut
from tests.kit.engines import a_request


def processor(**sampling: object) -> OutputProcessor:
    made = OutputProcessor(ByteTokenizer())
    made.add(a_request(max_tokens=100, **sampling))
    return made


def push(made: OutputProcessor, text: str, **fields: object) -> RequestOutput:
    output = SequenceOutput("r", list(text.encode()), **fields)  # type: ignore[arg-type]
    return made.process([output]).outputs[0]


def test_a_stop_token_is_counted_and_is_no_text() -> None:
    delta = push(processor(stop_token_ids=(ord("c"),)), "abc", finish_reason="stop")

    assert (delta.text, delta.stop_reason) == ("ab", ord("c"))
    assert delta.token_ids == list(b"abc")


def test_another_end_has_no_stop_token_and_keeps_its_text() -> None:
    delta = push(processor(stop_token_ids=(ord("c"),)), "abc", finish_reason="length")
    assert (delta.text, delta.stop_reason) == ("abc", None)


def test_text_held_back_comes_out_before_a_stop_token() -> None:
    made = processor(stop=("bX",), stop_token_ids=(ord("c"),))
    assert push(made, "ab").text == "a"
    assert push(made, "c", finish_reason="stop").text == "b"


@given(cuts=st.sets(st.integers(1, 8)))
def test_a_stop_string_counts_from_min_tokens_on_however_the_text_is_cut(cuts: set[int]) -> None:
    made = processor(stop=("b",), min_tokens=5)
    text, stop_reason = "", None
    for part in cut("abababab!", cuts):
        if stop_reason is None:
            delta = push(made, part)
            text, stop_reason = text + delta.text, delta.stop_reason

    assert (text, stop_reason) == ("ababa", "b")


def test_logprobs_stay_with_their_tokens() -> None:
    entries = [TokenLogprobs(-0.5, 1, [(97, -0.5)]), TokenLogprobs(-1.0)]
    delta = push(processor(logprobs=1), "ab", logprobs=entries)
    assert delta.logprobs == entries


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_merged_deltas_keep_one_entry_for_each_token(lengths: list[int]) -> None:
    stream = TokenStream(["r"], lambda _: None)
    number = 0
    for length in lengths:
        tokens = list(range(number, number + length))
        number += length
        logprobs = [TokenLogprobs(-float(token)) for token in tokens]
        stream.push(RequestOutput("r", tokens, "", logprobs=logprobs))

    merged = stream._pending["r"]

    assert merged.token_ids == list(range(number))
    assert merged.logprobs is not None
    assert [entry.logprob for entry in merged.logprobs] == [-float(n) for n in range(number)]


@given(text=st.text("aé狐👩", max_size=8), end=st.integers(0, 40), cuts=st.sets(st.integers(1, 30)))
@pytest.mark.parametrize("stop", [(), ("狐👩",), ("é!",)])
def test_a_character_that_is_cut_off_has_no_text(stop, text: str, end: int, cuts) -> None:
    """Text that was held back for a stop string comes out; the tokens are all counted."""
    data = text.encode()[:end]
    made = processor(stop=stop)
    told, num_tokens = "", 0
    parts = cut(list(data), cuts)
    for number, part in enumerate(parts):
        last = "length" if number == len(parts) - 1 else None
        delta = made.process([SequenceOutput("r", part, last)]).outputs[0]
        told, num_tokens = told + delta.text, num_tokens + len(delta.token_ids)
        if delta.finish_reason is not None:
            break
    whole = data.decode(errors="ignore")
    assert told == min([whole, *(whole.split(each)[0] for each in stop)], key=len)
    if told == whole:
        assert num_tokens == len(data)
