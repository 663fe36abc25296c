"""OpenAI's two forms of log-probabilities: every token is told, and cuts change nothing."""

import codecs

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.openai.writers.logprobs import (
    LOWEST,
    ChatLogprobsWriter,
    CompletionLogprobsWriter,
    shown_token,
)
from runtime.messages.request import TokenLogprobs
from runtime.tokenizers.byte_tokenizer import ByteTokenizer
from tests.kit.chat.cuts import cut

TOKENIZER = ByteTokenizer()
token_ids = st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=12)
texts = st.text(max_size=6).map(lambda text: list(text.encode()))


def entries(ids: list[int]) -> list[TokenLogprobs | None]:
    return [TokenLogprobs(-0.5, 2, [(65, -0.1), (226, float("-inf"))]) for _ in ids]


def test_tokens_in_words():
    assert shown_token(TOKENIZER, ord("a")) == "a"
    assert shown_token(TOKENIZER, 0xE2) == "bytes:\\xe2"
    assert shown_token(TOKENIZER, TOKENIZER.eos_token_id) == "<|eos|>"


@given(token_ids)
def test_the_bytes_of_a_chats_tokens_are_its_text(ids):
    content = ChatLogprobsWriter(TOKENIZER).write(ids, entries(ids)).content

    assert len(content) == len(ids)
    joined = b"".join(bytes(entry.bytes or []) for entry in content)
    assert joined == b"".join(map(TOKENIZER.token_bytes, ids))
    for entry in content:
        assert entry.logprob == -0.5
        assert [top.token for top in entry.top_logprobs] == ["A", "bytes:\\xe2"]
        assert entry.top_logprobs[1].logprob == LOWEST
        assert (entry.bytes is None) == (entry.token.startswith("<|"))


@given(token_ids | texts, st.lists(st.integers(1, 12), max_size=4))
def test_offsets_of_a_completion_do_not_depend_on_cuts(ids, cuts):
    """And each is the number of characters that were complete before the token."""
    whole = CompletionLogprobsWriter(TOKENIZER).write(ids, entries(ids))
    writer = CompletionLogprobsWriter(TOKENIZER)
    parts = [writer.write(part, entries(part)) for part in cut(ids, cuts)]

    for name, values in msgspec.structs.asdict(whole).items():
        assert [value for part in parts for value in getattr(part, name)] == values
        assert len(values) == len(ids)
    for place, offset in enumerate(whole.text_offset):
        before = b"".join(map(TOKENIZER.token_bytes, ids[:place]))
        assert offset == len(codecs.getincrementaldecoder("utf-8")("replace").decode(before))


def test_a_completion_tells_the_chosen_token_beside_the_likeliest():
    writer = CompletionLogprobsWriter(TOKENIZER)
    written = writer.write([256, ord("x"), 65], [None, *entries([1]), TokenLogprobs(-0.1)])

    assert written.token_logprobs == [None, -0.5, -0.1]
    assert written.top_logprobs == [
        None,
        {"A": -0.1, "bytes:\\xe2": LOWEST, "x": -0.5},
        {"A": -0.1},
    ]
    assert written.text_offset == [0, 0, 1]
