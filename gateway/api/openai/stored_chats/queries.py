"""What the address of a list asks for."""

from typing import Literal

import msgspec

from gateway.api.openai.protocol.params import Metadata
from gateway.api.openai.query import PageQuery


class MessagesQuery(PageQuery, frozen=True, kw_only=True):
    """A page of messages, which begin with the first."""

    order: Literal["asc", "desc"] = "asc"

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
