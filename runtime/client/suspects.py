"""Which request kills the engine? Pure: told of deaths and of progress, it says who runs next."""

from collections import deque
from collections.abc import Collection, Iterable

PROOF_TOKENS = 16
"""Tokens after which a request is beyond the step at which the last engine died: a few more than
the steps whose words may have been lost with it."""


class Suspects:
    """Finds the requests that kill the engine, without harm to the others.

    When an engine dies, those that it was working on are suspects. They come before it anew in
    groups, one after another: first those that had not got a token yet, because a new prompt is
    the likeliest reason, then the others. A member is cleared when it has got `PROOF_TOKENS` more
    tokens or has ended; when all are, the next group joins them. Everybody else waits until no
    group is left.

    When the engine dies again, it was one of the group that is not cleared yet: these are split
    into halves, and the first half begins. A suspect that is left alone and during whose trial the
    engine dies while it works on nothing else is guilty: it has been there at two deaths, and at
    the second one nobody else was. If others were running beside it, it is tried once more alone.
    So nobody is given up for what another one did, and a guilty one among N suspects costs at most
    3 + ceil(log2(N)) deaths. Two requests that kill the engine only together are not found.
    """

    def __init__(self) -> None:
        self._groups: deque[list[str]] = deque()
        self._on_trial: list[str] = []

    @property
    def is_searching(self) -> bool:
        """Whether somebody is under suspicion: what is not on trial waits."""
        return bool(self._on_trial or self._groups)

    @property
    def is_group_done(self) -> bool:
        """Whether nobody is on trial at the moment."""
        return not self._on_trial

    def next_group(self) -> list[str]:
        """Begin with the next group, and say who is in it; empty when none is left."""
        assert not self._on_trial, "one group at a time: this is a bug"
        self._on_trial = self._groups.popleft() if self._groups else []
        return list(self._on_trial)

    def clear(self, request_id: str) -> None:
        """A request has gone on far enough, or has ended. Others are ignored."""
        if request_id in self._on_trial:
            self._on_trial.remove(request_id)
            return
        for group in self._groups:
            if request_id in group:
                group.remove(request_id)
        self._groups = deque(group for group in self._groups if group)

    def interrupted(self) -> None:
        """The engine has ended for a reason that has nothing to do with any request."""
        if self._on_trial:
            self._groups.appendleft(self._on_trial)
        self._on_trial = []

    def died(self, working_on: Collection[str], newcomers: Collection[str]) -> str | None:
        """The engine has died while it worked on these, of which the newcomers had not got a token
        from it. Returns the one that is guilty, if that is certain now."""
        suspects = [request_id for request_id in self._on_trial if request_id in working_on]
        if not suspects:
            self._accuse(working_on, newcomers)
            return None
        waiting = [request_id for request_id in self._on_trial if request_id not in working_on]
        self._on_trial = []
        if set(working_on) == {suspects[0]}:
            self._put_first([waiting])
            return suspects[0]
        half = (len(suspects) + 1) // 2
        self._put_first([suspects[:half], suspects[half:], waiting])
        return None

    def _accuse(self, working_on: Collection[str], newcomers: Collection[str]) -> None:
        """Somebody who was not on trial did it."""
        self.interrupted()
        known = {request_id for group in self._groups for request_id in group}
        accused = [request_id for request_id in working_on if request_id not in known]
        new = [request_id for request_id in accused if request_id in newcomers]
        old = [request_id for request_id in accused if request_id not in newcomers]
        self._put_first([new, old])

    def _put_first(self, groups: Iterable[list[str]]) -> None:
        self._groups = deque([*(group for group in groups if group), *self._groups])
