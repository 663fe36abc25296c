"""Life of the engine process: start it, watch it, start it again."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import structlog
import zmq

from runtime.client.channel import Channel
from runtime.client.engine_client import EngineClient
from runtime.config.engine import EngineConfig, WorkerConfig
from runtime.engines import cautious, engine_environment
from runtime.messages.flight_record import FILE_NAME, read_record
from runtime.messages.wire import Fatal, FromEngine, Ready, Stop
from runtime.processes import descendants, kill, session_members
from runtime.supervisor.restart_budget import RestartBudget

log = structlog.get_logger(__name__)

STOP_SECONDS = 3.0
"""How long an engine that was told to leave may take before it is killed."""


class Supervisor:
    """Keeps one engine process alive and its client connected.

    Every process gets a socket of its own, so that nothing of a dead engine is ever read as the
    words of the next one. After `max_restarts` restarts within `restart_window` seconds the client
    is told that the engine has failed; then one more is tried every `failed_retry_interval`
    seconds, and at once when `restart` is called.
    """

    def __init__(
        self,
        config: EngineConfig,
        model_path: str,
        on_event: Callable[[FromEngine], None] | None = None,
    ) -> None:
        self.client = EngineClient(config.max_num_waiting_tokens)
        self._config = config
        self._model_path = model_path
        self._on_event = on_event
        self._has_served = False
        self._budget = RestartBudget(config.max_restarts, config.restart_window)
        self._run: _EngineRun | None = None
        self._no_pause = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to keep an engine running. Returns at once: loading goes on in its process."""
        assert self._task is None, "supervisor started twice: this is a bug"
        self._task = asyncio.create_task(self._keep_running(), name="engine-supervisor")

    async def stop(self) -> None:
        """End the engine process and wait until it is gone."""
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None
        self.client.lost("failed", "The server has stopped.")

    def restart(self) -> None:
        """Have a new engine process instead of this one, or after the engine was given up.

        Requests in flight go on with the next engine, and nobody is suspected. Earlier deaths are
        forgiven. Returns at once; loading shows in the client's state. For a supervisor that was
        started and not stopped. A call between two engines makes the next one start at once.
        """
        assert self._task is not None, "restart of what was not started: this is a bug"
        self._budget.forgive()
        if self.client.state == "failed":
            self.client.lost("starting", "The engine is starting again.")
        if self._task.done():
            self._task = asyncio.create_task(self._keep_running(), name="engine-supervisor")
        elif self._run is not None:
            self._run.end()
        else:
            self._no_pause.set()

    async def _keep_running(self) -> None:
        while (pause := await self._one_engine()) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._no_pause.wait()
            self._no_pause.clear()

    async def _one_engine(self) -> float | None:
        """Run one engine until it ends; returns the pause before the next, None for no next."""
        run = self._run = _EngineRun(self._config, self._model_path, self.client, self._on_event)
        try:
            reason = await run.to_the_end()
        except (OSError, zmq.ZMQError) as error:
            reason = f"The engine process cannot be started: {error}"
        finally:
            self._run = None
        if run.was_told_to_end:
            log.info("engine_restarts")
            self.client.lost("restarting", "The engine is being restarted.")
            return 0.0
        if run.died_loading and (config := cautious(self._config)) is not None:
            log.warning("engine_retries_without_extra_bufts", reason=reason)
            self._config = config
            return 0.0
        return self._after_death(run, reason)

    def _after_death(self, run: "_EngineRun", reason: str) -> float | None:
        now = time.monotonic()
        self.client.count_death(now)
        is_search = run.was_ready and self.client.is_searching
        pause = self._budget.death(now, is_search=is_search)
        log.error("engine_lost", reason=reason, is_search=is_search, pause=pause)
        self._has_served = self._has_served or run.was_ready
        if pause is None or (run.hopeless and not self._has_served):
            return self._give_up(reason)
        working_on = run.working_on if run.was_ready else ()
        self.client.lost("restarting", f"The engine is restarting: {reason}", working_on)
        return pause

    def _give_up(self, reason: str) -> float | None:
        """What ended the engine may end too: memory that another program holds, a file that is
        being replaced. So nobody has to be there for the engine to come back."""
        interval = self._config.failed_retry_interval
        log.error("engine_failed", next_try=interval or None)
        if not interval:
            self.client.lost("failed", reason)
            return None
        next_try = f"Another start is tried every {interval:g} seconds."
        self.client.lost("failed", f"{reason.rstrip('.')}. {next_try}")
        return interval


class _EngineRun:
    """One engine process from start to end."""

    def __init__(
        self,
        config: EngineConfig,
        model_path: str,
        client: EngineClient,
        on_event: Callable[[FromEngine], None] | None,
    ) -> None:
        self._config = config
        self._model_path = model_path
        self._client = client
        self._on_event = on_event
        self._ready = False
        self._returncode = 0
        self._fatal: str | None = None
        self._last_heard = time.monotonic()
        self._channel: Channel | None = None
        self._told_to_end = asyncio.Event()
        self.working_on: list[str] | None = None
        """After its end: what it worked on then; None where that is not known."""

    @property
    def was_told_to_end(self) -> bool:
        """Whether it ended because of `end`."""
        return self._told_to_end.is_set()

    def end(self) -> None:
        """Kill the process; `to_the_end` returns soon."""
        self._told_to_end.set()

    @property
    def was_ready(self) -> bool:
        """Whether it has loaded its model."""
        return self._ready

    @property
    def hopeless(self) -> bool:
        """Whether it said itself that it cannot load: another try would end the same, unless an
        earlier one has loaded, whose memory may not be free yet."""
        return self._fatal is not None and not self._ready

    @property
    def died_loading(self) -> bool:
        """Whether a signal ended it before it was ready."""
        return not self._ready and self._returncode < 0

    async def to_the_end(self) -> str:
        """Run an engine process until it ends. Returns why, as a sentence."""
        with tempfile.TemporaryDirectory(prefix="lockgate-", ignore_cleanup_errors=True) as folder:
            self._channel = Channel(_address(Path(folder)), self._receive)
            record = Path(folder) / FILE_NAME
            process = _start(self._worker_config(record))
            try:
                return await self._watch(process)
            finally:
                _end(process)
                self._channel.drain()
                self._channel.close()
                self.working_on = read_record(record)

    def _worker_config(self, record: Path) -> WorkerConfig:
        assert self._channel is not None
        return WorkerConfig(
            address=self._channel.address,
            record=str(record),
            model_path=self._model_path,
            engine=self._config,
        )

    async def _watch(self, process: "subprocess.Popen[bytes]") -> str:
        exited = asyncio.create_task(asyncio.to_thread(process.wait))
        told = asyncio.create_task(self._told_to_end.wait())
        try:
            while not exited.done():
                await asyncio.wait([exited, told], timeout=0.5, return_when="FIRST_COMPLETED")
                if not exited.done() and (why := self._why_end()):
                    process.kill()
                    await exited
                    return why
        except asyncio.CancelledError:
            if self._ready and self._channel is not None:
                self._channel.send(Stop())
                await asyncio.wait([exited], timeout=STOP_SECONDS)
            process.kill()
            raise
        finally:
            told.cancel()
        self._returncode = exited.result()
        return self._fatal or f"The engine process ended with {_status(self._returncode)}."

    def _receive(self, message: FromEngine) -> None:
        self._last_heard = time.monotonic()
        match message:
            case Ready():
                assert self._channel is not None
                self._ready = True
                self._client.connected(self._channel.send, message)
                log.info("engine_ready", **msgspec.to_builtins(message.info))
            case Fatal(reason):
                self._fatal = reason
            case _:
                self._client.receive(message)
        if self._on_event is not None:
            self._on_event(message)

    def _why_end(self) -> str | None:
        if self.was_told_to_end:
            return "The engine was told to end."
        silence = time.monotonic() - self._last_heard
        if self._ready and silence > self._config.heartbeat_timeout:
            return f"The engine has been silent for {silence:.0f} seconds."
        if not self._ready and silence > self._config.start_timeout:
            return f"The engine did not start within {self._config.start_timeout:.0f} seconds."
        return None


def _address(folder: Path) -> str:
    if sys.platform == "win32":
        return "tcp://127.0.0.1:*"
    return f"ipc://{folder / 'engine.sock'}"


def _start(config: WorkerConfig) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "runtime.worker"],
        stdin=subprocess.PIPE,
        env=_environment(config.engine),
        start_new_session=True,
    )
    assert process.stdin is not None
    encoded = msgspec.msgpack.encode(config)
    process.stdin.write(len(encoded).to_bytes(4, "big") + encoded)
    process.stdin.flush()  # and stays open: its end tells the engine that the gateway is gone
    return process


def _environment(config: EngineConfig) -> Mapping[str, str]:
    return {**engine_environment(config), **os.environ}


def _end(process: "subprocess.Popen[bytes]") -> None:
    started = descendants(process.pid)  # while it lives: then they have its number as parent
    process.kill()
    process.wait()
    kill([*started, *session_members(process.pid)])
    if process.stdin is not None:
        process.stdin.close()


def _status(returncode: int) -> str:
    return f"signal {-returncode}" if returncode < 0 else f"status {returncode}"
