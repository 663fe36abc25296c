"""The assembler: however deltas are cut, the stream says what the whole answer says."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.generation.assembler import Assembler
from gateway.generation.events import AnswerEnd, ChoiceEnd, ChoiceStart, Echo, Event, TextDelta
from runtime.messages.request import RequestOutput

Script = list[tuple[list[int], str]]

pieces = st.lists(
    st.tuples(st.lists(st.integers(0, 9), max_size=3), st.text(max_size=4)), min_size=1, max_size=6
)
scripts = st.lists(st.tuples(pieces, st.sampled_from(["stop", "length"])), min_size=1, max_size=4)


def outputs_of(index: int, script: Script, reason: str, group: int) -> list[RequestOutput]:
    """The script as deltas, `group` pieces merged into each, as a slow reader finds them."""
    chunks = [script[i : i + group] for i in range(0, len(script), group)]
    outputs = []
    for number, chunk in enumerate(chunks):
        tokens = [token for tokens, _ in chunk for token in tokens]
        text = "".join(text for _, text in chunk)
        last = number == len(chunks) - 1
        outputs.append(RequestOutput(f"r{index}", tokens, text, reason if last else None))
    return outputs


def fold(events: list[Event]) -> dict[int, tuple[str, str]]:
    """What a client makes of a stream."""
    texts: dict[int, str] = {}
    ended: dict[int, tuple[str, str]] = {}
    for event in events:
        match event:
            case ChoiceStart(index):
                assert index not in texts
                texts[index] = ""
            case TextDelta(index, text):
                assert text
                assert index not in ended
                texts[index] += text
            case ChoiceEnd(index, reason):
                assert index not in ended
                ended[index] = (texts[index], reason)
    return ended


@given(scripts, st.data())
def test_stream_equals_whole_however_it_is_cut(scripts, data):
    """Random answers, deltas merged at random and choices interleaved at random."""
    queues = [
        outputs_of(index, script, reason, data.draw(st.integers(1, 6)))
        for index, (script, reason) in enumerate(scripts)
    ]
    assembler = Assembler([f"r{index}" for index in range(len(scripts))], [7])
    events: list[Event] = []
    while any(queues):
        chosen = data.draw(
            st.sets(st.sampled_from([i for i, q in enumerate(queues) if q]), min_size=1)
        )
        events += assembler.push([queues[index].pop(0) for index in sorted(chosen)])

    answer = assembler.result()
    expected = ["".join(text for _, text in script) for script, _ in scripts]
    num_tokens = sum(len(tokens) for script, _ in scripts for tokens, _ in script)

    assert [choice.text for choice in answer.choices] == expected
    assert fold(events) == {c.index: (c.text, c.finish_reason) for c in answer.choices}
    assert events[-1] == AnswerEnd(answer.usage)
    assert sum(isinstance(event, AnswerEnd) for event in events) == 1
    assert answer.usage.prompt_tokens == 7
    assert answer.usage.completion_tokens == num_tokens
    assert answer.usage.total_tokens == 7 + num_tokens


def test_first_delta_without_text_starts_the_choice():
    """Half a character is a sign of life and no text."""
    assembler = Assembler(["r"], [1])

    assert assembler.push([RequestOutput("r", [5], "")]) == [ChoiceStart(0)]
    assert assembler.push([RequestOutput("r", [6], "é")]) == [TextDelta(0, "é")]


def test_prefix_comes_once_and_before_everything():
    """`echo`: each prompt's choices begin with that prompt's text."""
    assembler = Assembler(["a", "b", "c", "d"], [1, 2], [Echo("one "), Echo("two ")])
    ends = [RequestOutput(name, [1], name, "stop") for name in "abcd"]

    assembler.push([RequestOutput("c", [1], "")])
    assembler.push(ends)

    texts = [choice.text for choice in assembler.result().choices]
    assert texts == ["one a", "one b", "two c", "two d"]


def test_a_prompt_counts_once_for_all_its_choices():
    """Prompt and cached tokens are those of the first choice of each prompt."""
    assembler = Assembler(["a", "b", "c", "d"], [10, 20])
    cached = {"a": 3, "b": 10, "c": 99, "d": 20}
    assembler.push([RequestOutput(name, [1], "x", "stop", None, cached[name]) for name in "abcd"])

    usage = assembler.result().usage

    assert usage.prompt_tokens == 30
    assert usage.completion_tokens == 4
    assert usage.prompt_tokens_details.cached_tokens == 3 + 20
    assert assembler.finish_reasons == ["stop"] * 4
