"""Settles the fields of a body that its endpoint does not declare. Pure."""

import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from gateway.api.openai.fields.fates import (
    NOTHING,
    Alias,
    Fate,
    Hint,
    Refused,
    Spread,
    is_one_of,
)
from gateway.api.openai.fields.findings import Findings, is_null, refuse
from gateway.api.openai.fields.other_servers import OTHER_SERVERS
from gateway.api.openai.fields.places import Place, place_of, places_in
from gateway.api.openai.translate.unsupported import HARMLESS
from gateway.chat.parsing.spelling import Spellings, misspelt, unknown_parameter
from gateway.http.decoding import MISTAKES, Settled, to_invalid_request
from runtime.errors import InvalidRequest

T = TypeVar("T", bound=Struct)


class UndeclaredFields(Generic[T]):
    """What becomes of the fields that `kind`, the body of an endpoint, does not declare.

    The table `OTHER_SERVERS` decides, and `INSIDE` for the objects in the body. `neutral` adds
    values that ask for nothing at this endpoint. `elsewhere` has the bodies of other endpoints by
    their paths: their fields are refused here too. If only some of them could change the answer,
    `weighty` names those, and the others are hints. `raw_places` are the objects in fields that
    `kind` leaves undecoded. With `is_closed` every field is refused that has no other name here.
    """

    def __init__(
        self,
        kind: type[T],
        elsewhere: Mapping[str, type[Struct]],
        *,
        neutral: Mapping[str, tuple[Any, ...]] | None = None,
        weighty: Collection[str] | None = None,
        raw_places: Mapping[str, Place] | None = None,
        is_closed: bool = False,
    ) -> None:
        self._types = typing.get_type_hints(kind, include_extras=True)
        self._weighty = weighty
        self._is_closed = is_closed
        self._places = {**places_in(kind), **(raw_places or {})}
        self._fates = {**self._of_other_endpoints(elsewhere), **self._of_other_servers()}
        for name, values in (neutral or {}).items():
            fate = self._fates[name]
            assert isinstance(fate, Refused), "only what is refused has neutral values"
            self._fates[name] = Refused((*fate.neutral, *values), fate.advice)
        self._spellings = Spellings([*self._types, *self._fates])

    @property
    def fates(self) -> Mapping[str, Fate]:
        """The fate of every name that this endpoint knows and does not declare."""
        return self._fates

    def settle(self, data: T, fields: Mapping[str, Raw]) -> Settled[T]:
        """The body with the values of its aliases. `fields` are all that the client sent. Raises
        InvalidRequest, by the client's name of the field, for what would change the answer and
        cannot."""
        found = Findings()
        for name in sorted(fields):
            if name in self._types:
                if name in self._places:
                    found.look_inside(fields[name], self._places[name], name)
            else:
                self._settle_one(name, fields[name], data, found)
        values = {target: value for target, (_, value) in found.values.items()}
        return Settled(
            data=_with(data, values),
            ignored=found.ignored,
            unknown=found.unknown,
            names={target: name for target, (name, _) in found.values.items()},
        )

    def _settle_one(self, name: str, raw: Raw, data: T, found: Findings) -> None:
        fate = self._fates.get(name) or self._fate_of_spelling(name, raw)
        if isinstance(fate, Alias | Spread):
            for target, value in self._values(name, fate, raw):
                _add(found.values, target, name, value, data)
            if isinstance(fate, Spread) and (place := place_of(fate.kind)) is not None:
                found.look_inside(raw, place, name)
        elif self._is_closed and not is_null(raw):
            raise unknown_parameter(name)
        elif not self._is_closed:
            found.take(name, raw, fate)

    def _fate_of_spelling(self, name: str, raw: Raw) -> Fate | None:
        """The fate of a field of which nobody knows this spelling; None if nobody knows another.
        Raises InvalidRequest if the field is read by its right name."""
        meant = None if is_null(raw) else self._spellings.meant(name)
        fate = None if meant is None else self._fates.get(meant)
        if isinstance(fate, Alias):
            raise misspelt(name, fate.names[0])
        if meant is not None and (fate is None or isinstance(fate, Spread)):
            raise misspelt(name, meant)
        return fate

    def _of_other_servers(self) -> dict[str, Fate]:
        return {
            name: self._bound(name, fate)
            for name, fate in OTHER_SERVERS.items()
            if name not in self._types
        }

    def _bound(self, name: str, fate: Fate) -> Fate:
        """An alias of the one field that this endpoint has; refused if it has none."""
        if not isinstance(fate, Alias):
            return fate
        here = [target for target in fate.names if target in self._types]
        if here:
            return Alias((here[0],), fate.unset)
        if self._is_weighty(name):
            return Refused((*NOTHING, *fate.unset))
        return Hint(f"it is another name of {_list(fate.names)}, which this endpoint does not have")

    def _is_weighty(self, name: str) -> bool:
        return self._weighty is None or name in self._weighty

    def _of_other_endpoints(self, elsewhere: Mapping[str, type[Struct]]) -> dict[str, Fate]:
        homes: dict[str, list[str]] = {}
        for path, kind in elsewhere.items():
            for name in set(kind.__struct_fields__) - self._types.keys():
                homes.setdefault(name, []).append(path)
        return {name: self._foreign(name, paths) for name, paths in homes.items()}

    def _foreign(self, name: str, paths: Iterable[str]) -> Fate:
        if name in HARMLESS:
            return Hint(HARMLESS[name])
        if not self._is_weighty(name):
            return Hint(f"it is a parameter of {_list(paths)}")
        return Refused(NOTHING, f"It is a parameter of {_list(paths)}. Leave it out.")

    def _values(self, name: str, fate: Alias | Spread, raw: Raw) -> Iterable[tuple[str, Any]]:
        """The declared fields that stand for this one, each with its value."""
        if isinstance(fate, Alias):
            if not is_one_of(msgspec.json.decode(raw), (None, *fate.unset)):
                [target] = fate.names
                yield target, self._decoded(raw, target, name)
            return
        for target, value in fate.fields(_decode(raw, fate.kind, name)).items():
            if target not in self._types:
                refuse(name, "Leave it out.")
            yield target, self._decoded(msgspec.json.encode(value), target, name)

    def _decoded(self, raw: Raw | bytes, target: str, name: str) -> Any:
        return _decode(raw, self._types[target], name)


def _list(words: Iterable[str]) -> str:
    *others, last = [f"`{word}`" for word in words]
    return f"{', '.join(others)} and {last}" if others else last


def _decode(raw: Raw | bytes, kind: Any, where: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except MISTAKES as error:
        raise to_invalid_request(error, kind, where) from error


def _add(
    values: dict[str, tuple[str, Any]], target: str, name: str, value: Any, data: Struct
) -> None:
    """Notes the value of a declared field, which may have been sent by other names too. Raises
    InvalidRequest if they differ."""
    first, known = values.get(target, (target, getattr(data, target)))
    if (sent := _plain(known)) is not None and sent != _plain(value):
        raise InvalidRequest(
            f"`{name}` and `{first}` mean the same here, and they differ: send one of them.",
            param=name,
        )
    values[target] = (name, value)


def _plain(value: Any) -> Any:
    """A decoded value as plain JSON values; None for one that was not sent."""
    encoded = bytes(value) if isinstance(value, Raw) else msgspec.json.encode(value)
    return msgspec.json.decode(encoded) if encoded else None


def _with(data: T, values: Mapping[str, Any]) -> T:
    return msgspec.structs.replace(data, **values) if values else data
