"""The caller's side of the worker: requests in flight, errors, statistics."""

import asyncio
import itertools
import os
import threading
from collections import deque
from contextlib import AbstractContextManager
from typing import Any

from ..facts import fact
from .hosts import ProcessHost, ThreadHost
from .messages import Batch, Cancel, Die, EngineRequest, Response, WorkerConfig
from .result import RequestOutput
from .utils import EngineDeadError

WORKER_VARIABLE = "TENSORRT_LLM_DOUBLE_WORKER"


class Executor:
    """Owns the worker. Its batches come in a thread of the host's."""

    def __init__(self, config: WorkerConfig, max_stats: int, shutdown_block_s: float) -> None:
        self._ids = itertools.count(1)
        self._results: dict[int, RequestOutput] = {}
        self._errors: deque[Exception] = deque()
        self._stats: deque[dict[str, Any]] = deque(maxlen=max_stats)
        self._stats_came = threading.Condition()
        self._stats_wanted = config.iter_stats
        self._capacity = _capacity(config)
        self._shutdown = False
        self._dead = False
        self._shutdown_block_s = shutdown_block_s
        self._unblocked = threading.Event()
        self._host = (ProcessHost if _in_process() else ThreadHost)(config, self._take)

    @property
    def kv_cache_capacity(self) -> dict[str, int]:
        return self._capacity

    @property
    def worker_pid(self) -> int:
        """The worker's process, or this one where it is a thread."""
        return self._host.pid

    def next_id(self) -> int:
        return next(self._ids)

    def submit(self, request: EngineRequest, result: RequestOutput) -> None:
        self.raise_background_error()
        self._results[request.client_id] = result
        self._host.put(request)

    def abort_request(self, client_id: int) -> None:
        assert not self._shutdown, "The executor is shut down."
        self._host.put(Cancel(client_id))

    def is_shutdown(self) -> bool:
        return self._shutdown or (self._dead and fact("worker_is_watched"))

    def raise_background_error(self) -> None:
        """Raise what went wrong without belonging to a request, after shutting down."""
        if self._errors:
            error = self._errors.popleft()
            self._close()
            raise error

    def shutdown(self) -> None:
        """Cancel everything and join the worker. After a crash there is nobody to join, and the
        caller waits."""
        if self._shutdown:
            return
        self._close()
        if self._dead and fact("shutdown_blocks_after_crash"):
            self._unblocked.wait(self._shutdown_block_s)

    def kill_worker(self) -> None:
        """For tests: the worker ends without a word, whatever it is doing between iterations."""
        self._host.put(Die())

    def together(self) -> AbstractContextManager[Any]:
        """For tests: a worker in a thread gets what is submitted meanwhile in one piece, so that no
        request can be over before the next one has come."""
        assert isinstance(self._host, ThreadHost)
        return self._host.together()

    def unblock(self) -> None:
        """For tests: let a `shutdown` go that waits for a dead worker."""
        self._unblocked.set()

    def stats(self, seconds: float) -> list[dict[str, Any]]:
        """Records that have not been read, each once; waits `seconds` for the first."""
        if not self._stats_wanted:
            return []
        with self._stats_came:
            self._stats_came.wait_for(lambda: bool(self._stats), seconds)
            records = list(self._stats)
            self._stats.clear()
        return records

    def _close(self) -> None:
        if self._shutdown:
            return
        for client_id in tuple(self._results):
            self._host.put(Cancel(client_id))
        self._shutdown = True
        self._host.stop()

    def _take(self, batch: Batch) -> None:
        if batch.stats is not None:
            with self._stats_came:
                self._stats.append(batch.stats)
                self._stats_came.notify_all()
        if batch.engine_error is not None:
            self._errors.append(RuntimeError(batch.engine_error))
        self._deliver(batch.responses)
        if batch.dead:
            self._mourn()

    def _deliver(self, responses: list[Response]) -> None:
        """Queue each response for its result, then wake each event loop once."""
        loops: dict[asyncio.AbstractEventLoop, list[RequestOutput]] = {}
        for response in responses:
            result = self._results.get(response.client_id)
            if result is None:
                continue
            result._responses.append(response)
            if result._loop is not None:
                loops.setdefault(result._loop, []).append(result)
            if response.is_final:
                del self._results[response.client_id]
        for loop, results in loops.items():
            _wake(loop, results)

    def _mourn(self) -> None:
        """The worker is gone. Where nobody watches it, nobody who waits is told."""
        self._dead = True
        message = "Executor worker died unexpectedly"
        if not fact("worker_is_watched"):
            self._errors.append(RuntimeError(message))
            return
        self._errors.append(EngineDeadError(message))
        self._deliver(
            [Response(i, [], is_final=True, error=message, fatal=True) for i in self._results]
        )


def _capacity(config: WorkerConfig) -> dict[str, int]:
    """Whole blocks, and what they hold."""
    num_blocks = max(1, config.num_kv_tokens // config.tokens_per_block)
    return {
        "maxNumBlocks": num_blocks,
        "tokensPerBlock": config.tokens_per_block,
        "maxNumTokens": num_blocks * config.tokens_per_block,
    }


def _in_process() -> bool:
    """Asked for, and not forbidden by the package's own variable."""
    single = os.environ.get("TLLM_WORKER_USE_SINGLE_PROCESS") == "1"
    return os.environ.get(WORKER_VARIABLE) == "process" and not single


def _wake(loop: asyncio.AbstractEventLoop, results: list[RequestOutput]) -> None:
    try:
        loop.call_soon_threadsafe(_wake_all, results)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _wake_all(results: list[RequestOutput]) -> None:
    for result in results:
        result._wake()
