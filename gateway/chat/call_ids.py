"""Ids for the calls of a history that came without, and for the results that answer them. Pure."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

import msgspec

from gateway.chat.conversation import Turn, TurnCall


def with_call_ids(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """The same turns, where every call has an id. A result without an id is that of the first call
    that has no result yet; if it has a name, of the first such call of this name, if there is
    one."""
    turns = tuple(turns)
    if all(_has_ids(turn) for turn in turns):
        return turns
    new_ids = _new_ids({call.id for turn in turns for call in turn.calls})
    waiting = _Waiting()
    return tuple([_with_ids(turn, new_ids, waiting) for turn in turns])


def _has_ids(turn: Turn) -> bool:
    if turn.role == "tool":
        return bool(turn.call_id)
    return all(call.id for call in turn.calls)


def _new_ids(known: set[str]) -> Iterator[str]:
    """The same ids each time, so that the prompt of a history stays the same."""
    number = 0
    while True:
        if (made := f"call_{number}") not in known:
            yield made
        number += 1


def _with_ids(turn: Turn, new_ids: Iterator[str], waiting: "_Waiting") -> Turn:
    if turn.role == "tool":
        return msgspec.structs.replace(turn, call_id=waiting.answered(turn))
    if not turn.calls:
        return turn
    calls = [TurnCall(call.id or next(new_ids), call.name, call.arguments) for call in turn.calls]
    waiting.begin(calls)
    return msgspec.structs.replace(turn, calls=tuple(calls))


class _Waiting:
    """The calls of the last turn that had any, as long as they have no result."""

    def __init__(self) -> None:
        self._all: OrderedDict[str, str] = OrderedDict()
        self._by_name: dict[str, OrderedDict[str, None]] = {}

    def begin(self, calls: Iterable[TurnCall]) -> None:
        self._all = OrderedDict((call.id, call.name) for call in calls)
        self._by_name = {}
        for call_id, name in self._all.items():
            self._by_name.setdefault(name, OrderedDict())[call_id] = None

    def answered(self, result: Turn) -> str | None:
        """The id of the call that this result answers; None if no call waits for one."""
        call_id = result.call_id or self._first(result.name)
        if call_id is not None and (name := self._all.pop(call_id, None)) is not None:
            del self._by_name[name][call_id]
        return call_id

    def _first(self, name: str | None) -> str | None:
        named = self._by_name.get(name) if name is not None else None
        return next(iter(named or self._all), None)
