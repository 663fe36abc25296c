"""Who kills the engine: nobody is given up for what another one did, and the guilty ones are."""

import math
from collections.abc import Callable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from runtime.client.suspects import PROOF_TOKENS, Suspects

ANSWER_TOKENS = 60
MAX_DEATHS = 500


class Engine:
    """All that `EngineClient` does about suspects, on an engine that takes turns.

    `kill_at` has the requests that kill the engine, and after how many tokens of their answers.
    """

    def __init__(self, num_requests: int, kill_at: dict[str, int], max_num_seqs: int = 256) -> None:
        self.suspects = Suspects()
        self.num_tokens = {f"r{number}": 0 for number in range(num_requests)}
        self.given_up: list[str] = []
        self.num_deaths = 0
        self._kill_at = kill_at
        self._max_num_seqs = max_num_seqs
        self._submitted: dict[str, int] = {}

    def run(self, order: Callable[[list[str]], None] = lambda _: None) -> None:
        while self.num_tokens:
            self._go_on()
            working_on = list(self._submitted)[: self._max_num_seqs]
            order(working_on)
            if any(self.num_tokens[each] == self._kill_at.get(each) for each in working_on):
                self._die(working_on)
                continue
            for request_id in working_on:
                self._advance(request_id)

    def die_from_outside(self) -> None:
        self._die(list(self._submitted)[: self._max_num_seqs])

    def _advance(self, request_id: str) -> None:
        self.num_tokens[request_id] += 1
        self._submitted[request_id] += 1
        ended = self.num_tokens[request_id] == ANSWER_TOKENS
        if ended:
            del self.num_tokens[request_id], self._submitted[request_id]
        if ended or self._submitted[request_id] >= PROOF_TOKENS:
            self.suspects.clear(request_id)

    def _die(self, working_on: list[str]) -> None:
        self.num_deaths += 1
        assert self.num_deaths < MAX_DEATHS, "the search has no end"
        new = [each for each in working_on if not self._submitted[each]]
        self._submitted.clear()
        guilty = self.suspects.died(working_on, new)
        if guilty is not None:
            self.given_up.append(guilty)
            del self.num_tokens[guilty]

    def _go_on(self) -> None:
        while self.suspects.is_searching and self.suspects.is_group_done:
            self._submitted |= dict.fromkeys(self.suspects.next_group(), 0)
        if not self.suspects.is_searching:
            for request_id in self.num_tokens:
                self._submitted.setdefault(request_id, 0)


@given(st.integers(1, 60), st.data())
def test_exactly_the_guilty_are_given_up(num_requests: int, data: st.DataObject):
    names = st.sampled_from([f"r{number}" for number in range(num_requests)])
    kill_at = data.draw(st.dictionaries(names, st.integers(0, ANSWER_TOKENS - 1), max_size=4))
    max_num_seqs = data.draw(st.integers(1, 20))
    engine = Engine(num_requests, kill_at, max_num_seqs)

    engine.run(Random(data.draw(st.integers())).shuffle)

    assert sorted(engine.given_up) == sorted(kill_at)
    assert not engine.suspects.is_searching


@given(st.integers(1, 256), st.data())
def test_one_guilty_request_is_found_within_few_deaths(num_requests: int, data: st.DataObject):
    guilty = f"r{data.draw(st.integers(0, num_requests - 1))}"
    engine = Engine(num_requests, {guilty: data.draw(st.integers(0, ANSWER_TOKENS - 1))})

    engine.run()

    assert engine.given_up == [guilty]
    assert 2 <= engine.num_deaths <= 3 + math.ceil(math.log2(num_requests))


def test_a_new_request_that_kills_beside_old_ones_is_given_up_at_the_second_death():
    suspects = Suspects()
    old = [f"old{number}" for number in range(15)]

    assert suspects.died([*old, "new"], ["new"]) is None
    assert suspects.next_group() == ["new"]
    assert suspects.died(["new"], ["new"]) == "new"
    assert suspects.next_group() == old


def test_a_suspect_is_not_given_up_while_others_run_beside_it():
    suspects = Suspects()
    suspects.died(["a", "b"], ["a"])
    assert suspects.next_group() == ["a"]
    suspects.clear("a")
    assert suspects.next_group() == ["b"]

    assert suspects.died(["a", "b"], []) is None
    assert suspects.next_group() == ["b"]
    assert suspects.died(["b"], ["b"]) == "b"
    assert not suspects.is_searching


def test_a_death_from_outside_costs_nobody_anything():
    engine = Engine(16, {})
    engine._go_on()

    engine.die_from_outside()
    engine.run()

    assert (engine.given_up, engine.num_deaths) == ([], 1)


def test_an_engine_that_ends_for_another_reason_leaves_the_search_where_it_was():
    suspects = Suspects()
    suspects.died(["a", "b"], ["a", "b"])
    assert suspects.next_group() == ["a", "b"]

    suspects.interrupted()

    assert suspects.next_group() == ["a", "b"]
    assert suspects.is_searching


def test_a_suspect_that_leaves_is_forgotten_wherever_it_stands():
    suspects = Suspects()
    suspects.died(["a", "b"], ["a"])
    suspects.clear("b")
    suspects.next_group()
    suspects.clear("a")

    assert not suspects.is_searching
