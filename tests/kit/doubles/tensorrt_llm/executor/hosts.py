"""Where the worker runs: a thread of this process, or a process of its own."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing import Pipe
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from .messages import Batch, WorkerConfig
from .worker.worker import Worker


class _Died(BaseException):
    """Ends the worker's thread as a signal would end its process: without another word."""


class ThreadHost:
    """The worker in a daemon thread. What it sends is handed over in that thread."""

    def __init__(self, config: WorkerConfig, on_batch: Callable[[Batch], None]) -> None:
        self.send = on_batch
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._reading = threading.Lock()
        self._released = threading.Event()
        self._worker = Worker(config, self)
        self._thread = threading.Thread(target=self._run, name="trtllm-worker", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return os.getpid()

    def put(self, message: Any) -> None:
        self._inbox.put(message)

    def stop(self) -> None:
        self._released.set()
        self._inbox.put(None)
        self._thread.join()

    def together(self) -> AbstractContextManager[Any]:
        """For tests: what is put meanwhile comes to the worker in one piece."""
        return self._reading

    def receive(self, block: bool) -> list[Any]:
        messages = []
        try:
            messages.append(self._inbox.get(block))
            with self._reading:
                while True:
                    messages.append(self._inbox.get_nowait())
        except Empty:
            return messages

    def die(self) -> None:
        raise _Died

    def hang(self) -> None:
        self._released.wait()

    def _run(self) -> None:
        try:
            self._worker.run()
        except BaseException as error:
            self.send(Batch([], dead=True))
            if not isinstance(error, _Died):
                raise  # the double's own mistake: it is shown


class ProcessHost:
    """The worker in a child process, which a test can kill; a thread here reads what it says."""

    def __init__(self, config: WorkerConfig, on_batch: Callable[[Batch], None]) -> None:
        self._on_batch = on_batch
        self._stopping = False
        self._connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tensorrt_llm.executor.worker_process",
                    str(theirs.fileno()),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": _search_path()},
            )
        self._connection.send(config)
        self._thread = threading.Thread(target=self._read, name="trtllm-results", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def put(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except OSError:  # it is dead; the reader says so
            return

    def stop(self) -> None:
        self._stopping = True
        self.put(None)
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()
        self._connection.close()

    def _read(self) -> None:
        try:
            while True:
                self._on_batch(self._connection.recv())
        except (EOFError, OSError):
            self._process.wait()
            if not self._stopping:
                self._on_batch(Batch([], dead=True))


def _search_path() -> str:
    """The parent's search path, so that processors that came from there can be unpickled."""
    here = str(Path(__file__).parents[2])
    return os.pathsep.join([here, *(path or os.getcwd() for path in sys.path)])
