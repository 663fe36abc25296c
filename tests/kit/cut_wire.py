"""A wire to a server on loopback that breaks at a chosen word."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Wire:
    """Passes on what comes to `port`. Each connection that is there when `word` is sent breaks:
    before it has arrived, or when its answer comes, which nobody gets. With `is_down` there is no
    other connection any more."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._word = b""
        self._arrives = self._stays_down = False
        self.is_down = False
        self.num_cut = 0

    def cut_at(self, word: bytes, *, arrives: bool, stays_down: bool = False) -> None:
        """Once."""
        self._word, self._arrives, self._stays_down = word, arrives, stays_down

    def run(self) -> None:
        with suppress(OSError):  # the end of the listener
            while True:
                client, _ = self._listener.accept()
                if self.is_down:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
                threading.Thread(target=self._ask, args=(client, server), daemon=True).start()
                threading.Thread(target=_pass_on, args=(server, client), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                if self._word and self._word in data:
                    self._break(client, server, data)
                    return
                server.sendall(data)
        _end(server, socket.SHUT_WR)

    def _break(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        self._word = b""
        self.num_cut += 1
        self.is_down = self._stays_down
        _end(client, socket.SHUT_RDWR)
        if self._arrives:
            server.sendall(data)
        _end(server, socket.SHUT_WR)


def _pass_on(server: socket.socket, client: socket.socket) -> None:
    """To the end of what the server says, even where nobody listens."""
    with client, server, suppress(OSError):
        while data := server.recv(65_536):
            with suppress(OSError):
                client.sendall(data)
        _end(client, socket.SHUT_RDWR)


def _end(end: socket.socket, how: int) -> None:
    with suppress(OSError):  # it may have ended already
        end.shutdown(how)


@contextmanager
def wire_to(target: int) -> Iterator[Wire]:
    wire = Wire(target)
    thread = threading.Thread(target=wire.run)
    thread.start()
    try:
        yield wire
    finally:
        wire.close()
        thread.join()
