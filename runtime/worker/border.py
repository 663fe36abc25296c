"""The worker's side of the process border: a socket, or a substitute in tests."""

from typing import Protocol

import zmq

from runtime.messages.wire import (
    FromEngine,
    ToEngine,
    decode_to_engine,
    encode,
)


class Border(Protocol):
    """The engine's side of the process border."""

    def receive(self, timeout: float) -> list[ToEngine]:
        """All messages that have arrived. Waits at most `timeout` seconds for the first."""
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
        while True:
            try:
                messages.append(decode_to_engine(self._socket.recv(zmq.NOBLOCK)))
            except zmq.Again:
                return messages

    def send(self, message: FromEngine) -> None:
        self._socket.send(encode(message))

    def close(self, linger_seconds: float = 5.0) -> None:
        self._socket.close(linger=round(linger_seconds * 1000))
        zmq.Context.instance().term()
