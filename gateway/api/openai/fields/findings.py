"""What becomes of the undeclared fields of one body. Pure."""

from functools import cache
from typing import Any, NoReturn

import msgspec
from msgspec import Raw, Struct

from gateway.api.openai.fields.fates import Fate, Hint, Refused, is_one_of
from gateway.api.openai.fields.inside import INSIDE
from gateway.api.openai.fields.places import Place, Undeclared, undeclared
from gateway.chat.parsing.spelling import Spellings, misspelt
from runtime.errors import InvalidRequest


class Findings:
    """What is known of the undeclared fields, as far as they have been looked at.

    `ignored` and `unknown` are as in `Settled`. `values` has for each declared field that was sent
    under another name that name and the value.
    """

    def __init__(self) -> None:
        self.ignored: dict[str, str] = {}
        self.unknown: list[str] = []
        self.values: dict[str, tuple[str, Any]] = {}
        self._seen: set[tuple[type[Struct], str]] = set()

    def take(self, path: str, raw: Raw, fate: Fate | None) -> None:
        """Notes a field that is not read. Raises InvalidRequest if it would change the answer."""
        match fate:
            case Refused():
                _check_neutral(path, raw, fate)
            case Hint(reason):
                self.ignored[path] = reason
            case None:
                self.unknown.append(path)

    def look_inside(self, raw: Raw, place: Place, where: str) -> None:
        """Notes the undeclared fields of all objects in a value: a field of one kind of object
        once, at its first place. Raises InvalidRequest for those that would change the answer."""
        for each in undeclared(raw, place, where):
            key, fate = (each.kind, each.name), INSIDE.get(each.kind, {}).get(each.name)
            if is_null(each.value) or (key in self._seen and not isinstance(fate, Refused)):
                continue
            if fate is None:
                _check_spelling(each)
            self._seen.add(key)
            self.take(each.path, each.value, fate)


def _check_spelling(field: Undeclared) -> None:
    """Raises InvalidRequest for another spelling of a declared field."""
    if (meant := _spellings_of(field.kind).meant(field.name)) is not None:
        raise misspelt(field.path, meant)


@cache
def _spellings_of(kind: type[Struct]) -> Spellings:
    return Spellings(kind.__struct_fields__)


def is_null(raw: Raw) -> bool:
    """Whether a value is null."""
    return bytes(memoryview(raw)[:1]) == b"n"


def _check_neutral(name: str, raw: Raw, refused: Refused) -> None:
    if not is_one_of(msgspec.json.decode(raw), (None, *refused.neutral)):
        refuse(name, refused.advice)


def refuse(name: str, advice: str) -> NoReturn:
    """Raises InvalidRequest for a field that would change the answer."""
    raise InvalidRequest(
        f"`{name}` is not supported by this endpoint. {advice}",
        param=name,
        code="unsupported_parameter",
    )
