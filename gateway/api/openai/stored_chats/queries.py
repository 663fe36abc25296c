"""What the address of a list asks for."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.api.openai.protocol.params import Metadata


class MessagesQuery(Struct, frozen=True, kw_only=True):
    """A page of messages: at most `limit` of them, behind the one with the id `after`."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "asc"
    after: str = ""

    @property
    def newest_first(self) -> bool:
        return self.order == "desc"


class ChatsQuery(MessagesQuery, frozen=True, kw_only=True):
    """A page of completions, of this model and with all of these labels."""

    model: str = ""
    metadata: Metadata = msgspec.field(default_factory=dict)

    @property
    def is_filtered(self) -> bool:
        return bool(self.model or self.metadata)
