"""Settles the fields of a body that its endpoint does not declare. Pure."""

import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Generic, NoReturn, TypeVar

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
from gateway.api.openai.fields.other_servers import OTHER_SERVERS
from gateway.api.openai.translate.unsupported import HARMLESS
from gateway.http.decoding import MISTAKES, Settled, to_invalid_request
from runtime.errors import InvalidRequest

T = TypeVar("T", bound=Struct)


class UndeclaredFields(Generic[T]):
    """What becomes of the fields that `kind`, the body of an endpoint, does not declare.

    The table `OTHER_SERVERS` decides, and `neutral` adds values that ask for nothing at this
    endpoint. `elsewhere` has the bodies of other endpoints by their paths: their fields are refused
    here too. If only some of them could change the answer, `weighty` names those, and the others
    are hints.
    """

    def __init__(
        self,
        kind: type[T],
        elsewhere: Mapping[str, type[Struct]],
        *,
        neutral: Mapping[str, tuple[Any, ...]] | None = None,
        weighty: Collection[str] | None = None,
    ) -> None:
        self._types = typing.get_type_hints(kind, include_extras=True)
        self._weighty = weighty
        self._fates = {**self._of_other_endpoints(elsewhere), **self._of_other_servers()}
        for name, values in (neutral or {}).items():
            fate = self._fates[name]
            assert isinstance(fate, Refused), "only what is refused has neutral values"
            self._fates[name] = Refused((*fate.neutral, *values), fate.advice)

    @property
    def fates(self) -> Mapping[str, Fate]:
        """The fate of every name that this endpoint knows and does not declare."""
        return self._fates

    def settle(self, data: T, unknown: Mapping[str, Raw]) -> Settled[T]:
        """The body with the values of its aliases. Raises InvalidRequest, by the client's name of
        the field, for what would change the answer and cannot."""
        ignored: dict[str, str] = {}
        values: dict[str, tuple[str, Any]] = {}
        for name in sorted(unknown.keys() & self._fates.keys()):
            match self._fates[name]:
                case Hint(reason):
                    ignored[name] = reason
                case Refused() as refused:
                    _check_neutral(name, unknown[name], refused)
                case Alias() | Spread() as alias:
                    for target, value in self._values(name, alias, unknown[name]):
                        _add(values, target, name, value, data)
        data = _with(data, {target: value for target, (_, value) in values.items()})
        return Settled(
            data=data,
            ignored=ignored,
            unknown=unknown.keys() - self._fates.keys(),
            names={target: name for target, (name, _) in values.items()},
        )

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
                _refuse(name, "Leave it out.")
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


def _check_neutral(name: str, raw: Raw, refused: Refused) -> None:
    if not is_one_of(msgspec.json.decode(raw), (None, *refused.neutral)):
        _refuse(name, refused.advice)


def _refuse(name: str, advice: str) -> NoReturn:
    raise InvalidRequest(
        f"`{name}` is not supported by this endpoint. {advice}",
        param=name,
        code="unsupported_parameter",
    )


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
