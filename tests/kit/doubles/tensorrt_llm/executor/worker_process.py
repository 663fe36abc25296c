"""A worker as a program: `python -m tensorrt_llm.executor.worker_process DESCRIPTOR`."""

import os
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from .messages import Batch
from .worker.worker import Worker


class _Pipe:
    """The worker's side of the pipe. The end of the parent is the end of the worker."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def receive(self, block: bool) -> list[Any]:
        messages = []
        try:
            while block or self._connection.poll():
                messages.append(self._connection.recv())
                block = False
        except (EOFError, OSError):
            messages.append(None)
        return messages

    def send(self, batch: Batch) -> None:
        try:
            self._connection.send(batch)
        except OSError:
            sys.exit()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(self) -> None:
        while None not in self.receive(block=True):
            pass
        sys.exit()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    Worker(connection.recv(), _Pipe(connection)).run()


if __name__ == "__main__":
    main()
