"""The gateway's end of the ZeroMQ pair socket, driven by the event loop.

`zmq.asyncio` costs a future and a task switch for every message; here the loop watches the
socket's descriptor and delivers all messages that have arrived at once. The loop must be able to
watch descriptors: uvloop and asyncio's selector loops are, the Windows proactor loop is not.

All channels share one context, which is never terminated: `zmq_ctx_term` of libzmq 4.3.5 sometimes
waits forever for a closed pair socket whose peer was killed. Closing a socket never waits.
"""

import asyncio
import functools
from collections.abc import Callable

import structlog
import zmq

from runtime.messages.wire import FromEngine, ToEngine, decode_from_engine, encode

log = structlog.get_logger(__name__)

MAX_MESSAGES_PER_TURN = 4
"""Messages per turn of the event loop, so that readers keep up with the engine. Deltas that arrive
faster than the loop turns are merged: a stream event holds at most four steps."""


@functools.cache
def _context() -> "zmq.Context[zmq.Socket[bytes]]":
    return zmq.Context(io_threads=1)


class Channel:
    """One engine's socket. `send` and `close` are plain calls on the loop's thread."""

    def __init__(self, address: str, on_message: Callable[[FromEngine], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._socket: zmq.Socket[bytes] = _context().socket(zmq.PAIR)
        self._socket.set_hwm(0)
        self._socket.set(zmq.RCVHWM, 100)  # past that the engine waits for the gateway
        self._socket.bind(address)
        self.address = self._socket.get_string(zmq.LAST_ENDPOINT)
        self._closed = False
        self._outgoing: list[bytes] = []
        self._turn_is_due = False
        descriptor = self._socket.get(zmq.FD)
        assert isinstance(descriptor, int)
        self._descriptor = descriptor
        self._loop.add_reader(descriptor, self._on_readable)

    def send(self, message: ToEngine) -> None:
        """Queue a message for the engine; never blocks. It leaves at the end of the loop's turn,
        together with all others of that turn. A dead engine's messages are dropped."""
        frame = encode(message)
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(frame)

    def drain(self) -> None:
        """Deliver the last messages of a dead engine. ZeroMQ drops incomplete messages."""
        while not self._closed:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._on_message(decode_from_engine(frame))

    def close(self) -> None:
        """Drop the socket and whatever it still holds."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._descriptor)
        self._socket.close(linger=0)

    def _flush(self) -> None:
        frames, self._outgoing = self._outgoing, []
        if self._closed:
            return
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            # No engine is connected: it has just died. The requests in flight go to the next engine
            # through that engine's own channel.
            log.info("engine_not_listening", num_messages=len(frames))
            return
        # The descriptor is edge-triggered: sending may have swallowed the edge of an arrival.
        events = self._socket.get(zmq.EVENTS)
        assert isinstance(events, int)
        if events & zmq.POLLIN:
            self._take_a_turn_soon()

    def _take_a_turn_soon(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._take_a_turn)

    def _take_a_turn(self) -> None:
        self._turn_is_due = False
        self._on_readable()

    def _on_readable(self) -> None:
        if self._turn_is_due:
            return  # a second chain of turns would add up without bound
        for _ in range(MAX_MESSAGES_PER_TURN):
            if self._closed:
                return
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._on_message(decode_from_engine(frame))
        self._take_a_turn_soon()
