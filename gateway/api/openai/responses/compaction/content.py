"""What a compaction item carries: opaque to clients, not secret, and checked. Pure."""

from base64 import b64decode, urlsafe_b64encode
from binascii import Error as BadBase64
from hashlib import blake2b
from typing import NoReturn

import msgspec
from msgspec import Struct

from runtime.errors import InvalidRequest

PREFIX = "lockgate."
VERSION = "1."
_DIGEST_BYTES = 16


class Summary(Struct, frozen=True, omit_defaults=True):
    """What stands for the beginning of a conversation: `text` is the model's summary, and
    `messages` are the user's last messages in it, as they were sent.

    Of the items in front of the compaction item the last `num_kept` are read as they are, behind
    the summary. The others are not read any more, except messages of the system.
    """

    text: str
    messages: tuple[str, ...] = ()
    num_kept: int = 0


def written(summary: Summary) -> str:
    """The summary as the `encrypted_content` of an item."""
    body = msgspec.json.encode(summary)
    return f"{PREFIX}{VERSION}{urlsafe_b64encode(_digest(body) + body).decode()}"


def read(content: str, param: str) -> Summary:
    """The summary in the `encrypted_content` of an item. Raises InvalidRequest, with `param`, for
    one that this server has not written, or that was changed."""
    if not content.startswith(PREFIX):
        _refuse(param, "was not written by this server, which cannot read it")
    if not content.startswith(PREFIX + VERSION):
        _refuse(param, "was written by another version of this server, which reads version 1")
    try:
        sealed = b64decode(content[len(PREFIX + VERSION) :], b"-_", validate=True)
        digest, body = sealed[:_DIGEST_BYTES], sealed[_DIGEST_BYTES:]
        if digest == _digest(body):
            return msgspec.json.decode(body, type=Summary)
    except (BadBase64, ValueError):
        pass  # said below, as of all that is damaged
    _refuse(param, "is damaged: it has to be sent back exactly as it came")


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=_DIGEST_BYTES).digest()


def _refuse(param: str, what: str) -> NoReturn:
    raise InvalidRequest(
        f"`{param}` {what}. Send the item that this server has made, or the items that it stands"
        " for.",
        param=param,
        code="invalid_value",
    )
