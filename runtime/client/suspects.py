"""Finds the request that kills the engine: from deaths and progress it decides what runs next."""

from collections import deque
from collections.abc import Collection, Iterable

PROOF_TOKENS = 16
"""New tokens after which a request has passed the step at which the last engine died. A few more
than the steps whose outputs may have been lost with the engine."""


class Suspects:
    """Finds the requests that kill the engine, without harm to the others.

    When an engine dies, the requests that it was working on are suspects. They are submitted again
    in groups, one after another: first the requests without a token yet, because a new prompt is
    the likeliest cause, then the others. A suspect is cleared when it has got `PROOF_TOKENS` more
    tokens or has ended. When the whole group is cleared, the next group joins it. All other
    requests wait until no group is left.

    When the engine dies again, the cause is a suspect of the group that is not cleared yet. These
    suspects are split into halves, and the first half is tried. A suspect is guilty if the engine
    dies during its trial while working on nothing else: it was present at two deaths, and at the
    second one alone. If other requests were running beside it, it is tried once more alone. So no
    request is given up for the fault of another, and a guilty request among N suspects costs at
    most 3 + ceil(log2(N)) deaths. Two requests that kill the engine only together are not found.
    """

    def __init__(self) -> None:
        self._groups: deque[list[str]] = deque()
        self._on_trial: list[str] = []

    @property
    def is_searching(self) -> bool:
        """Whether there are suspects. Then requests that are not on trial wait."""
        return bool(self._on_trial or self._groups)

    @property
    def is_group_done(self) -> bool:
        """Whether no request is on trial at the moment."""
        return not self._on_trial

    def next_group(self) -> list[str]:
        """Put the next group on trial and return it; empty when no group is left."""
        assert not self._on_trial, "one group at a time: this is a bug"
        self._on_trial = self._groups.popleft() if self._groups else []
        return list(self._on_trial)

    def clear(self, request_id: str) -> None:
        """Clear a suspect that has made enough progress or has ended. Other ids are ignored."""
        if request_id in self._on_trial:
            self._on_trial.remove(request_id)
            return
        for group in self._groups:
            if request_id in group:
                group.remove(request_id)
        self._groups = deque(group for group in self._groups if group)

    def interrupted(self) -> None:
        """The engine has ended for a reason unrelated to any request; the trial starts over."""
        if self._on_trial:
            self._groups.appendleft(self._on_trial)
        self._on_trial = []

    def died(self, working_on: Collection[str], newcomers: Collection[str]) -> str | None:
        """The engine has died while it worked on `working_on`. `newcomers` had no token from it.
        Returns the guilty request, once it is certain."""
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
        """Add new suspects: the cause was not on trial."""
        self.interrupted()
        known = {request_id for group in self._groups for request_id in group}
        accused = [request_id for request_id in working_on if request_id not in known]
        new = [request_id for request_id in accused if request_id in newcomers]
        old = [request_id for request_id in accused if request_id not in newcomers]
        self._put_first([new, old])

    def _put_first(self, groups: Iterable[list[str]]) -> None:
        self._groups = deque([*(group for group in groups if group), *self._groups])
