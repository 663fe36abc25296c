"""One run of an engine process, from its start to its end."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import structlog

from runtime.client.channel import Channel
from runtime.client.engine_client import EngineClient
from runtime.config.engine import EngineConfig
from runtime.config.worker import WorkerConfig, engine_environment
from runtime.messages.flight_record import FILE_NAME, read_record
from runtime.messages.wire import EXIT_ENGINE_FATAL, EXIT_FATAL, Fatal, FromEngine, Ready, Stop
from runtime.processes import (
    descendants,
    has_crashed,
    how_it_ended,
    kill,
    session_members,
    was_cut_short,
)
from runtime.supervisor.engine_output import EngineOutput, form_of, forward
from runtime.supervisor.run_folder import run_folder

log = structlog.get_logger(__name__)

STOP_SECONDS = 3.0
"""How long an engine may take to stop before it is killed."""

LAST_WORDS_SECONDS = 5.0
"""How long the `Fatal` message of a dead engine may take. It has left the process, but on a busy
machine the thread that reads the socket may lag behind the end of the process."""


class EngineRun:
    """One engine process from start to end."""

    def __init__(
        self,
        config: EngineConfig,
        model_path: str,
        client: EngineClient,
        on_event: Callable[[FromEngine], None] | None,
        output: EngineOutput | None = None,
    ) -> None:
        self._config = config
        self._model_path = model_path
        self._client = client
        self._on_event = on_event
        self._output = output
        self._ready = False
        self._returncode = 0
        self._fatal: str | None = None
        self._last_heard = time.monotonic()
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
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
            kill([*descendants(process.pid), *session_members(process.pid)])
            process.kill()
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
            process = self._process = _start(self._worker_config(record), self._output)
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
            key=self._channel.key,
            record=str(record),
            model_path=self._model_path,
            engine=self._config,
            log_form=form_of(self._output),
        )

    async def _watch(self, process: "subprocess.Popen[bytes]") -> str:
        exited = asyncio.create_task(asyncio.to_thread(process.wait))
        requested = asyncio.create_task(self._end_requested.wait())
        try:
            while not exited.done():
                await asyncio.wait([exited, requested], timeout=0.5, return_when="FIRST_COMPLETED")
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
            requested.cancel()
        self._returncode = exited.result()
        if self._returncode in (EXIT_FATAL, EXIT_ENGINE_FATAL):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    await self._has_said_why.wait()
        return self._fatal or f"The engine process ended with {how_it_ended(self._returncode)}."

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
                self._has_said_why.set()
            case _:
                self._client.receive(message)
        if self._on_event is not None:
            self._on_event(message)

    def _why_end(self) -> str | None:
        if self.was_asked_to_end:
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


def _start(config: WorkerConfig, output: EngineOutput | None) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "runtime.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if output else None,
        stderr=subprocess.STDOUT if output else None,
        env=_environment(config.engine),
        start_new_session=True,
    )
    if output is not None:
        forward(process, output.write)
    assert process.stdin is not None
    encoded = msgspec.msgpack.encode(config)
    process.stdin.write(len(encoded).to_bytes(4, "big") + encoded)
    process.stdin.flush()  # and stays open: its end tells the engine that the gateway is gone
    return process


def _environment(config: EngineConfig) -> Mapping[str, str]:
    # what it prints is read here, and is UTF-8 on Windows too
    return {**engine_environment(config), **os.environ, "PYTHONIOENCODING": "utf-8"}


def _end(process: "subprocess.Popen[bytes]") -> None:
    started = descendants(process.pid)  # before it dies and its children lose it as parent
    process.kill()
    process.wait()
    kill([*started, *session_members(process.pid)])
    if process.stdin is not None:
        process.stdin.close()
