"""Stop strings end the text exactly, however it is cut."""

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidRequest
from runtime.text.stop import StopChecker

TEXT = st.text(alphabet="ab<|é", max_size=40)
STOPS = st.lists(st.text(alphabet="ab<|é", min_size=1, max_size=5), max_size=4).map(tuple)


def run(stop: tuple[str, ...], pieces: list[str]) -> tuple[str, str | None]:
    checker = StopChecker(stop)
    text = "".join(map(checker.push, pieces)) + checker.flush()
    return text, checker.matched


def expected(stop: tuple[str, ...], text: str) -> tuple[str, str | None]:
    """The stop string that ends first; of those that end together, the longest."""
    for end in range(len(text) + 1):
        found = [s for s in stop if text[:end].endswith(s)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(STOPS, TEXT)
def test_every_way_to_cut_a_text_gives_the_same(stop: tuple[str, ...], text: str) -> None:
    """One cut at every place, and a cut at every place at once, change nothing."""
    want = expected(stop, text)

    assert run(stop, [text]) == want
    assert run(stop, list(text)) == want
    for cut in range(len(text) + 1):
        assert run(stop, [text[:cut], "", text[cut:]]) == want


@given(STOPS, st.lists(TEXT, max_size=5))
def test_every_pair_of_cuts_gives_the_same(stop: tuple[str, ...], pieces: list[str]) -> None:
    assert run(stop, pieces) == expected(stop, "".join(pieces))


@given(STOPS, TEXT, st.integers(0, 40))
def test_an_included_stop_string_ends_the_text(stop: tuple[str, ...], text: str, cut: int) -> None:
    checker = StopChecker(stop, include=True)
    sent = checker.push(text[:cut]) + checker.push(text[cut:]) + checker.flush()
    before, matched = expected(stop, text)

    assert checker.matched == matched
    assert sent == before + (matched or "")


@given(STOPS, TEXT)
def test_no_stop_string_leaks(stop: tuple[str, ...], text: str) -> None:
    sent, _ = run(stop, list(text))

    assert not any(s in sent for s in stop)


@given(STOPS, TEXT)
def test_only_what_may_become_a_stop_is_held_back(stop: tuple[str, ...], text: str) -> None:
    checker = StopChecker(stop)
    sent = checker.push(text)

    held = text[len(sent) :]
    if checker.matched is None:
        assert held == "" or any(s.startswith(held) for s in stop)


def test_nothing_comes_after_a_match() -> None:
    checker = StopChecker(("END",))

    assert checker.push("one END two") == "one "
    assert checker.push("three") == ""
    assert checker.flush() == ""
    assert checker.matched == "END"


def test_a_false_start_is_given_back() -> None:
    checker = StopChecker(("<|im_end|>",))

    assert checker.push("a <|im_") == "a "
    assert checker.push("start|>") == "<|im_start|>"
    assert checker.matched is None


@pytest.mark.parametrize(
    ("stop", "text", "want"),
    [
        (("bcd", "c"), "abcd", ("ab", "c")),
        (("bc", "c"), "abc", ("a", "bc")),
        (("aab",), "aaab", ("a", "aab")),
        (("abab", "b"), "xabab", ("xa", "b")),
    ],
)
def test_overlapping_stops(stop: tuple[str, ...], text: str, want: tuple[str, str]) -> None:
    assert run(stop, list(text)) == want


def test_a_long_stop_string_costs_linear_time() -> None:
    """A hostile stop string and text would need 10^10 comparisons if each were tried alone."""
    stop = "a" * 50_000 + "b"

    assert run((stop,), ["a"] * 200_000)[0] == "a" * 200_000


def test_long_stop_strings_cost_nothing_until_a_text_is_like_them() -> None:
    tracemalloc.start()
    began = time.process_time()
    for _ in range(100):
        StopChecker(tuple("ab" * 2048 for _ in range(64))).push("once upon a time")
    seconds = time.process_time() - began
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert seconds < 1
    assert most < 1_000_000


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="stop"):
        StopChecker(("x", ""))
