"""Names of fields in other spellings, such as `maxTokens` for `max_tokens`. Pure."""

import re
from collections.abc import Iterable

from runtime.errors import InvalidRequest

MIN_LETTERS = 3
"""Names of fewer letters are too likely to be somebody's own."""

MAX_CHARACTERS = 100
"""No longer name is another spelling."""

_BETWEEN = re.compile(r"[\s_.-]+")


class Spellings:
    """The names of fields, found whatever stands between their words and whatever is in capitals.
    The first of two names with the same letters wins."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names: dict[str, str] = {}
        for name in names:
            self._names.setdefault(_letters(name), name)

    def meant(self, name: str) -> str | None:
        """The name that another spelling means; None if it means none."""
        letters = _letters(name) if len(name) <= MAX_CHARACTERS else ""
        found = self._names.get(letters) if len(letters) >= MIN_LETTERS else None
        return None if found == name else found


def misspelt(path: str, meant: str) -> InvalidRequest:
    """The error of a field whose name means another."""
    return _unknown(path, f"Did you mean `{meant}`?")


def unknown_parameter(path: str, known: Iterable[str] = ()) -> InvalidRequest:
    """The error of a field that an object must not have. It names the one of the `known` fields
    that is meant, if one is."""
    meant = Spellings(known).meant(path.rpartition(".")[2])
    return _unknown(path, "Leave it out.") if meant is None else misspelt(path, meant)


def _unknown(path: str, advice: str) -> InvalidRequest:
    message = f"`{path}` is not a parameter here. {advice}"
    return InvalidRequest(message, param=path, code="unknown_parameter")


def _letters(name: str) -> str:
    return _BETWEEN.sub("", name).lower()
