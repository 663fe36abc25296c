"""The bytes of a body as they come, put together where it delays nobody."""

_PIECE = 65_536
"""Bytes that are collected before they are kept as one piece."""


class BodyPieces:
    """A body of `num_bytes` so far. A piece costs memory of its own, so small ones are collected.
    To put ten megabytes together takes milliseconds, which a large body's thread may take."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._pieces: list[bytes] = []
        self._small = bytearray()

    def add(self, data: bytes) -> None:
        """The body goes on with these bytes."""
        self.num_bytes += len(data)
        if not self._small and len(data) >= _PIECE:
            self._pieces.append(data)
            return
        self._small += data
        if len(self._small) >= _PIECE:
            self._keep_small()

    def take(self) -> bytes:
        """The whole body, which is no longer kept here. Python joins more than a megabyte of bytes
        without holding its lock."""
        if self._small:
            self._keep_small()
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def _keep_small(self) -> None:
        self._pieces.append(bytes(self._small))
        self._small.clear()
