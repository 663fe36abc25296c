"""How many values a body has, counted before it is decoded. Pure.

Ten megabytes of JSON can be millions of values. Each costs a multiple of its bytes in time and in
memory, and the decoder holds the interpreter until the last one is made.
"""

from msgspec import Struct

from runtime.errors import InvalidRequest

_SLICE = 262_144
"""Bytes that are taken apart at once, in about a millisecond."""

_COUNTED = 1_048_576
"""Bytes that are counted at once, so that the interpreter's other threads need not wait longer."""

_BACKSLASH = 0x5C


class BodyShape(Struct, frozen=True):
    """`values` are the objects, lists and texts of a body, names of fields included. `entries` are
    the commas between the entries of objects and lists."""

    values: int
    entries: int


class BodyLimits(Struct, frozen=True):
    """The largest shape that is decoded. The settings are those of `server`."""

    max_body_values: int
    max_body_entries: int

    def check(self, body: bytes) -> None:
        """Raises InvalidRequest, which names the setting, for a body of too many values."""
        if self._fits(upper_bound(body)):
            return
        shape = measure(body)
        if shape.values > self.max_body_values:
            self._refuse(f"{shape.values} objects, lists and texts", "max_body_values")
        if shape.entries > self.max_body_entries:
            self._refuse(f"{shape.entries} entries of lists and objects", "max_body_entries")

    def _fits(self, shape: BodyShape) -> bool:
        return shape.values <= self.max_body_values and shape.entries <= self.max_body_entries

    def _refuse(self, what: str, setting: str) -> None:
        raise InvalidRequest(
            f"The body has {what}; this server takes {getattr(self, setting)}"
            f" (server.{setting}). Send less at once.",
            param=None,
            code="request_too_large",
        )


def upper_bound(body: bytes) -> BodyShape:
    """At least the shape of a body, because what stands within texts counts too."""
    quotes = openings = commas = 0
    for start in range(0, len(body), _COUNTED):
        part = (start, start + _COUNTED)
        quotes += body.count(b'"', *part)
        openings += body.count(b"{", *part) + body.count(b"[", *part)
        commas += body.count(b",", *part)
    return BodyShape(quotes // 2 + openings, commas)


def measure(body: bytes) -> BodyShape:
    """The shape of a body. Of what is not JSON, a number that grows with its length."""
    quotes = values = entries = start = 0
    while start < len(body):
        end = _end_of_slice(body, start)
        text = body[start:end].replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = text.split(b'"')
        outside = b"".join(pieces[quotes & 1 :: 2])
        quotes += len(pieces) - 1
        values += outside.count(b"{") + outside.count(b"[")
        entries += outside.count(b",")
        start = end
    return BodyShape(values + quotes // 2, entries)


def _end_of_slice(body: bytes, start: int) -> int:
    """Where a slice may end: not between a backslash and the character that it escapes."""
    end = min(start + _SLICE, len(body))
    while end < len(body) and body[end - 1] == _BACKSLASH:
        end += 1
    return end
