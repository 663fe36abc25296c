"""The engine process: receive, admit, step, send.

The supervisor starts this process and writes the configuration to its standard input, which
then stays open. End of file on it means that the gateway has ended, for whatever reason. The
process then removes the folder of its socket and its record, and exits at once. On Linux that
holds for a stopped process too.
"""

import contextlib
import gc
import os
import sys
import threading
import time
import traceback
from typing import BinaryIO, NoReturn

import msgspec

from runtime.config.worker import WorkerConfig
from runtime.engines import create_engine
from runtime.errors import EngineFatal, LockgateError
from runtime.messages.flight_record import FlightRecorder
from runtime.messages.loading import LoadPhase
from runtime.messages.wire import (
    EXIT_ENGINE_FATAL,
    EXIT_FATAL,
    Abort,
    Embed,
    Fatal,
    LoadAdapter,
    Loading,
    Ready,
    Stop,
    Submit,
    ToEngine,
    UnloadAdapter,
    with_times,
)
from runtime.processes import continue_when_parent_dies, ignore_interrupts, kill_offspring
from runtime.tokenizers.load import load_tokenizer
from runtime.worker.border import (
    Border,
    ZmqBorder,
)
from runtime.worker.core import EngineCore
from runtime.worker.log import configure_log

HEARTBEAT_SECONDS = 1.0
"""Longest silence of an idle engine."""

BURST_SECONDS = 0.001
"""How long an idle engine waits for more requests after the first. Prompts that are computed in one
batch take a third less time than one after another."""

PREPARING_SECONDS = 0.001
"""How often an otherwise idle engine checks whether a request has been prepared."""

MAX_BURST = 8
"""Maximum number of waits of BURST_SECONDS. The first wait without a message is the last."""

EXIT_ERROR = 1
"""Exit status after an unexpected error; its traceback is on stderr."""


def serve(core: EngineCore, border: Border) -> None:
    """Run until a `Stop` message. A busy engine never waits for messages."""
    last_sent = time.monotonic()
    while True:
        messages = _receive(border, core)
        now = time.monotonic()  # the same for all, so that they stay in order
        for message in messages:
            match message:
                case Submit():
                    core.submit(with_times(message, now))
                case Embed():
                    core.embed(with_times(message, now))
                case Abort(request_id):
                    core.abort(request_id)
                case LoadAdapter():
                    core.load_adapter(message)
                case UnloadAdapter(name):
                    core.unload_adapter(name)
                case Stop():
                    return
        if core.has_work:
            core.step()
        elif time.monotonic() - last_sent >= HEARTBEAT_SECONDS / 2:
            core.heartbeat()
        for outgoing in core.take_messages():
            border.send(outgoing)
            last_sent = time.monotonic()


def _receive(border: Border, core: EngineCore) -> list[ToEngine]:
    """A busy engine reads without waiting. An idle engine waits, also for the rest of a burst."""
    if core.has_work:
        return border.receive(0)
    if core.is_preparing:
        return border.receive(PREPARING_SECONDS)
    messages = border.receive(HEARTBEAT_SECONDS / 2)
    for _ in range(MAX_BURST):
        if not messages:
            break
        more = border.receive(BURST_SECONDS)
        messages += more
        if not more:
            break
    return messages


def main() -> int:
    """Entry point of the process; returns its exit status."""
    ignore_interrupts()
    continue_when_parent_dies()  # and see that standard input has ended
    config = _read_config(sys.stdin.buffer)
    configure_log(config.log_form)
    recorder = FlightRecorder(config.record)
    _leave_with_parent(sys.stdin.buffer, recorder)
    border = ZmqBorder(config.address, config.key)
    status = 0
    try:
        _load_and_serve(config, border, recorder)
    except Exception as error:
        status = _say_why(error, border)
    border.close()
    return status


def _load_and_serve(config: WorkerConfig, border: Border, recorder: FlightRecorder) -> None:
    def announce(phase: LoadPhase, fraction: float | None = None) -> None:
        border.send(Loading(phase, fraction))

    announce("tokenizer")
    tokenizer = load_tokenizer(config.model_path)
    engine = create_engine(config.engine, config.model_path, tokenizer, announce)
    gc.collect()
    gc.freeze()  # spare the collector the vocabulary, which lives for good
    info = msgspec.structs.replace(engine.info, pid=os.getpid())
    border.send(Ready(engine.limits, info, engine.capabilities))
    serve(EngineCore(engine, tokenizer, config.engine, recorder.write), border)
    recorder.close()
    engine.close()  # not after an error, since closing a broken engine may block


def _say_why(error: Exception, border: Border) -> int:
    match error:
        case EngineFatal():
            reason, status = str(error), EXIT_ENGINE_FATAL
        case LockgateError():
            reason, status = str(error), EXIT_FATAL
        case _:
            reason, status = f"{type(error).__name__}: {error}", EXIT_ERROR
            with contextlib.suppress(OSError):  # a full disk must not stop the `Fatal` message
                traceback.print_exception(error)
    border.send(Fatal(reason))
    return status


def _leave(status: int) -> NoReturn:
    """End this process and all processes that the engine has started. Exit handlers of libraries do
    not run, because they may wait for a dead process."""
    kill_offspring(os.getpid())
    os._exit(status)


def _read_config(stream: BinaryIO) -> WorkerConfig:
    size = int.from_bytes(stream.read(4), "big")
    return msgspec.msgpack.decode(stream.read(size), type=WorkerConfig)


def _leave_with_parent(stream: BinaryIO, recorder: FlightRecorder) -> None:
    def watch() -> None:
        # Not `stream.read()`: a buffered reader's lock must not be held when Python shuts down.
        os.read(stream.fileno(), 1)
        recorder.remove_folder()
        _leave(0)  # a step may run for seconds in native code; nothing is left to save

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


# The guard matters: an engine that starts processes with MPI imports this module in each of them
# under another name (docs/tensorrt-llm-contract.md, 1.1).
if __name__ == "__main__":
    exit_status = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    _leave(exit_status)
