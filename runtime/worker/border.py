"""The worker's side of the process border: a socket, or a substitute in tests."""

import threading
from typing import Protocol

import zmq

from runtime.messages.wire import (
    FromEngine,
    ToEngine,
    decode_to_engine,
    encode,
)

MAX_BYTES = 1_000_000
"""After so many bytes of messages the engine goes on with its work before it reads more."""


class Border(Protocol):
    """The engine's side of the process border."""

    def receive(self, timeout: float) -> list[ToEngine]:
        """The messages that have arrived. Waits at most `timeout` seconds for the first. Of very
        large messages some may be left for the next call, so that reading does not take long."""
        ...

    def send(self, message: FromEngine) -> None: ...


class ZmqBorder:
    """A ZeroMQ pair socket. `send` blocks while the gateway is a thousand messages behind."""

    def __init__(self, address: str) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
        self._socket.connect(address)

    def receive(self, timeout: float) -> list[ToEngine]:
        messages: list[ToEngine] = []
        if timeout and not self._socket.poll(round(timeout * 1000)):
            return messages
        num_bytes = 0
        while num_bytes < MAX_BYTES:
            try:
                encoded = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return messages
            num_bytes += len(encoded)
            messages.append(decode_to_engine(encoded))
        return messages

    def send(self, message: FromEngine) -> None:
        self._socket.send(encode(message))

    def close(self, linger_seconds: float = 5.0) -> None:
        """Waits at most `linger_seconds` until the gateway has the last messages. libzmq 4.3.5 may
        wait longer when a connection ends at the same time, and then it is left alone."""
        self._socket.close(linger=round(linger_seconds * 1000))
        ending = threading.Thread(target=zmq.Context.instance().term, daemon=True)
        ending.start()
        ending.join(linger_seconds)
