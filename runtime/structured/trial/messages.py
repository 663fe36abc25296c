"""What a process for trials reads and writes: msgpack behind its length in four bytes."""

from typing import BinaryIO, TypeVar

import msgspec
from msgspec import Struct

from runtime.errors import InvalidRequest
from runtime.structured.fitting import FittedConstraint

M = TypeVar("M")


class Spelling(Struct, frozen=True, kw_only=True):
    """The bytes of each token of a vocabulary, b"" for one that stands for no text, and the two
    tokens that llguidance asks for."""

    tokens: list[bytes]
    bos_token_id: int | None
    eos_token_id: int


class Verdict(Struct, frozen=True, omit_defaults=True):
    """How a trial ended: with the constraint that compiles, or with the words, the parameter and
    the code of a refusal. The first one that a process writes only says that it is ready."""

    fitted: FittedConstraint | None = None
    refusal: str = ""
    param: str | None = None
    code: str = ""

    @property
    def error(self) -> InvalidRequest | None:
        """The refusal as an error."""
        if not self.refusal:
            return None
        return InvalidRequest(self.refusal, param=self.param, code=self.code)


def write_message(stream: BinaryIO, message: object) -> None:
    """Raises OSError when the other end is gone."""
    encoded = msgspec.msgpack.encode(message)
    stream.write(len(encoded).to_bytes(4, "big") + encoded)
    stream.flush()


def read_message(stream: BinaryIO, kind: type[M]) -> M | None:
    """The next message; None when the other end is gone."""
    length = stream.read(4)
    encoded = stream.read(int.from_bytes(length, "big"))
    if len(length) < 4 or len(encoded) < int.from_bytes(length, "big"):
        return None
    return msgspec.msgpack.decode(encoded, type=kind)
