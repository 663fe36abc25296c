"""The engine's end of the socket."""

import time

import zmq

from runtime.worker.border import ZmqBorder


def test_closing_waits_no_longer_than_it_may():
    """A socket that is left open keeps libzmq from ending, and so may a dead peer."""
    open_socket = zmq.Context.instance().socket(zmq.PAIR)
    border = ZmqBorder("tcp://127.0.0.1:9")
    started = time.monotonic()
    try:
        border.close(linger_seconds=0.1)
        assert time.monotonic() - started < 5.0
    finally:
        open_socket.close(linger=0)
