"""How often a dead engine is started again, and how soon."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.supervisor.restart_budget import (
    FIRST_PAUSE_SECONDS,
    MAX_PAUSE_SECONDS,
    MAX_SEARCH_DEATHS,
    RestartBudget,
)


def test_each_pause_is_twice_as_long_as_the_one_before_up_to_a_bound():
    budget = RestartBudget(10, 600)

    pauses = [budget.death(float(second)) for second in range(9)]

    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_an_old_death_does_not_count():
    budget = RestartBudget(2, 60)

    assert [budget.death(now) for now in (0, 1, 60.5, 61.5)] == [0.5, 1, 1, 1]


def test_forgiven_deaths_do_not_count():
    budget = RestartBudget(0, 60)
    assert budget.death(0.0) is None

    budget.forgive()

    assert budget.death(1.0) is None
    assert RestartBudget(1, 60).death(0.0) == FIRST_PAUSE_SECONDS


def test_a_search_takes_deaths_of_its_own_and_they_have_an_end():
    budget = RestartBudget(1, 60)

    pauses = [budget.death(1.0, is_search=True) for _ in range(MAX_SEARCH_DEATHS + 1)]

    assert pauses == [FIRST_PAUSE_SECONDS] * MAX_SEARCH_DEATHS + [None]
    assert budget.death(1.0) == FIRST_PAUSE_SECONDS


@given(st.integers(0, 5), st.lists(st.floats(0, 100), max_size=30))
def test_no_window_has_more_restarts_than_allowed(max_restarts: int, gaps: list[float]):
    budget, now, restarts = RestartBudget(max_restarts, 60), 0.0, list[float]()
    for gap in gaps:
        now += gap
        pause = budget.death(now)
        if pause is not None:
            assert FIRST_PAUSE_SECONDS <= pause <= MAX_PAUSE_SECONDS
            restarts.append(now)

    for start in restarts:
        assert sum(start <= restart < start + 60 for restart in restarts) <= max(max_restarts, 1)
        assert max_restarts or not restarts
