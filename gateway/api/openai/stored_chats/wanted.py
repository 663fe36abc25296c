"""What the address of a list asks for."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.api.openai.protocol.params import Metadata
from runtime.errors import InvalidRequest

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


class Wanted(Struct, frozen=True, kw_only=True):
    """A page of a list: at most `limit` objects behind the object `after`, in their order or
    `newest_first`, of this `model` and with all of these labels if it is a list of completions."""

    after: str = ""
    limit: int = DEFAULT_LIMIT
    newest_first: bool = False
    model: str = ""
    metadata: Mapping[str, str] = {}

    @property
    def is_filtered(self) -> bool:
        return bool(self.model or self.metadata)


def wanted_page(params: Sequence[tuple[str, Any]]) -> Wanted:
    """The page that a request's query asks for, without a filter. Raises InvalidRequest."""
    given = dict(params)
    order = given.get("order", "asc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("`order` has to be `asc` or `desc`.", param="order")
    return Wanted(after=given.get("after", ""), limit=_limit(given), newest_first=order == "desc")


def wanted_completions(params: Sequence[tuple[str, Any]]) -> Wanted:
    """The same with the filters `model` and `metadata[key]`. Raises InvalidRequest."""
    page = wanted_page(params)
    return msgspec.structs.replace(
        page, model=dict(params).get("model", ""), metadata=_metadata(params)
    )


def _limit(given: Mapping[str, Any]) -> int:
    text = str(given.get("limit", DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MAX_LIMIT):
        raise InvalidRequest(
            f"`limit` has to be a whole number from 1 to {MAX_LIMIT}.", param="limit"
        )
    return int(text)


def _metadata(params: Sequence[tuple[str, Any]]) -> dict[str, str]:
    metadata = dict[str, str]()
    for name, value in params:
        if not name.startswith("metadata"):
            continue
        key = name.removeprefix("metadata")[1:-1]
        if name != f"metadata[{key}]":
            raise InvalidRequest(
                "A filter by labels is written `metadata[key]=value`, once for each key.",
                param="metadata",
            )
        if metadata.setdefault(key, value) != value:
            raise InvalidRequest(
                f"`{name}` has two values, and a label has one: nothing has both.", param="metadata"
            )
    try:
        return msgspec.convert(metadata, Metadata)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            "`metadata` is wrong: at most 16 labels, with keys of at most 64 characters and values"
            " of at most 512.",
            param="metadata",
        ) from error
