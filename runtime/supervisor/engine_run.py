"""One run of an engine process, from its start to its end."""

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from runtime.client.channel import Channel
from runtime.client.engine_client import EngineClient
from runtime.config.engine import EngineConfig
from runtime.config.engines import ENGINES
from runtime.config.worker import WorkerConfig
from runtime.messages.flight_record import FILE_NAME, read_record
from runtime.messages.wire import (
    EXIT_ENGINE_FATAL,
    EXIT_FATAL,
    Fatal,
    FromEngine,
    Loading,
    Ready,
    Stop,
)
from runtime.processes import has_crashed, how_it_ended, was_cut_short
from runtime.supervisor.engine_output import EngineOutput, form_of
from runtime.supervisor.engine_process import EngineProcess
from runtime.supervisor.load_watch import LoadWatch
from runtime.supervisor.run_folder import run_folder
from runtime.supervisor.signs_of_life import read_signs
from runtime.user_cache import cache_folder

log = structlog.get_logger(__name__)

STOP_SECONDS = 3.0
"""How long an engine may take to stop before it is killed."""

SIGN_SECONDS = 2.0
"""How often an engine that loads is looked at for signs of life."""

LAST_WORDS_SECONDS = 5.0
"""How long the `Fatal` message and the end of an engine may lie apart. The message has left a dead
process, but on a busy machine the thread that reads the socket may lag behind. A process that
lives on is killed."""


class EngineRun:
    """One engine process from start to end."""

    def __init__(
        self,
        config: EngineConfig,
        model_path: str,
        client: EngineClient,
        on_event: Callable[[FromEngine], None] | None,
        output: EngineOutput | None = None,
        gpu_bytes: Callable[[], int] = int,
    ) -> None:
        self._config = config
        self._gpu_bytes = gpu_bytes
        self._load = LoadWatch(config.start_timeout, client.starts)
        self._model_path = model_path
        self._client = client
        self._on_event = on_event
        self._output = output
        self._ready = False
        self._has_hung = False
        self._returncode = 0
        self._fatal: str | None = None
        self._last_heard = time.monotonic()
        self._channel: Channel | None = None
        self._process: EngineProcess | None = None
        self._folder: Path | None = None
        self._end_requested = asyncio.Event()
        self._has_said_why = asyncio.Event()
        self.working_on: list[str] | None = None
        """Set at its end: the requests it was working on; None when not known."""

    @property
    def was_asked_to_end(self) -> bool:
        """Whether it ended because of `end`."""
        return self._end_requested.is_set()

    def end(self) -> None:
        """Kill the process; `to_the_end` returns soon."""
        self._end_requested.set()

    def abandon(self) -> None:
        """Kill the process and remove its files, from any thread, when nothing else will."""
        if (process := self._process) is not None:
            process.abandon()
        if (folder := self._folder) is not None:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def was_ready(self) -> bool:
        """Whether it has loaded its model."""
        return self._ready

    @property
    def hopeless(self) -> bool:
        """Whether the engine reported that it cannot load. Another start would fail the same way,
        unless an earlier engine had loaded, whose memory may not be free yet."""
        return self._fatal is not None and not self._ready

    @property
    def has_hung(self) -> bool:
        """Whether it was given up while it loaded. Another start would most likely hang too."""
        return self._has_hung

    @property
    def died_loading(self) -> bool:
        """Whether a signal, or an exception of Windows, ended it before it was ready."""
        return not self._ready and was_cut_short(self._returncode)

    @property
    def has_crashed(self) -> bool:
        """Whether it ended of a mistake in its own code: neither was it killed from outside, nor
        for its memory."""
        return has_crashed(self._returncode)

    async def to_the_end(self) -> str:
        """Run an engine process until it ends. Returns the reason as a sentence."""
        with run_folder() as folder:
            self._folder = folder
            self._channel = Channel(_address(folder), self._receive)
            record = folder / FILE_NAME
            try:
                process = self._process = EngineProcess(self._worker_config(record), self._output)
                looks = asyncio.create_task(self._look_for_signs(process))
                try:
                    return await self._watch(process)
                finally:
                    looks.cancel()
                    await process.end()
                    self._channel.drain()
            finally:
                self._channel.close()
                self.working_on = read_record(record)

    def _worker_config(self, record: Path) -> WorkerConfig:
        assert self._channel is not None
        return WorkerConfig(
            address=self._channel.address,
            key=self._channel.key,
            record=str(record),
            model_path=self._model_path,
            engine=_with_prefix_folder(self._config),
            log_form=form_of(self._output),
        )

    async def _watch(self, process: EngineProcess) -> str:
        requested = asyncio.create_task(self._end_requested.wait())
        news: list[asyncio.Future[Any]] = [process.ended, requested]
        try:
            while not process.ended.done():
                await asyncio.wait(news, timeout=0.5, return_when="FIRST_COMPLETED")
                if not process.ended.done() and (why := self._why_end()):
                    return why
        except asyncio.CancelledError:
            if self._ready and self._channel is not None:
                self._channel.send(Stop())
                await asyncio.wait([process.ended], timeout=STOP_SECONDS)
            raise
        finally:
            requested.cancel()
        self._returncode = process.ended.result()
        await self._hear_last_words()
        return self._fatal or f"The engine process ended with {how_it_ended(self._returncode)}."

    async def _look_for_signs(self, process: EngineProcess) -> None:
        """While it loads: its messages are rare, and a library may say nothing for minutes."""
        while not self._ready:
            now = time.monotonic()
            signs = await asyncio.to_thread(read_signs, process.pid, now)
            if not self._ready:
                outside = {"num_lines": process.num_outputs, "gpu_bytes": self._gpu_bytes()}
                self._load.on_signs(msgspec.structs.replace(signs, **outside))
            await asyncio.sleep(SIGN_SECONDS)

    async def _hear_last_words(self) -> None:
        if self._returncode in (EXIT_FATAL, EXIT_ENGINE_FATAL):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    await self._has_said_why.wait()

    def _receive(self, message: FromEngine) -> None:
        self._last_heard = time.monotonic()
        match message:
            case Loading(phase, fraction):
                self._load.on_phase(phase, fraction)
            case Ready():
                assert self._channel is not None
                self._ready = True
                self._client.connected(self._channel.send, message)
                log.info("engine_ready", **msgspec.to_builtins(message.info))
            case Fatal(reason):
                self._fatal = reason
                self._has_said_why.set()
            case _:
                self._client.receive(message)
        if self._on_event is not None:
            self._on_event(message)

    def _why_end(self) -> str | None:
        if self.was_asked_to_end:
            return "The engine was told to end."
        silence = time.monotonic() - self._last_heard
        if self._fatal is not None and silence > LAST_WORDS_SECONDS:
            return self._fatal  # it was to end of itself
        if self._ready and silence > self._config.heartbeat_timeout:
            return f"The engine has been silent for {silence:.0f} seconds."
        if not self._ready and (why := self._load.why_given_up()):
            self._has_hung = True
            return f"{why} {ENGINES[self._config.name].start_advice}".rstrip()
        return None


def _with_prefix_folder(config: EngineConfig) -> EngineConfig:
    """With the folder that an empty `prefix_cache_folder` stands for."""
    folder = config.prefix_cache_folder or str(cache_folder() / "prefixes")
    return msgspec.structs.replace(config, prefix_cache_folder=folder)


def _address(folder: Path) -> str:
    if sys.platform == "win32":
        return "tcp://127.0.0.1:*"
    return f"ipc://{folder / 'engine.sock'}"
