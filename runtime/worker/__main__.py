"""The engine process: receive, admit, step, send.

Started by the supervisor with its configuration on standard input, which then stays open: its end
means that the gateway is gone, however it went, and the process leaves at once with its socket's
folder removed.
"""

import contextlib
import gc
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import BinaryIO, NoReturn

import msgspec

from runtime.config.worker import WorkerConfig
from runtime.engines import create_engine
from runtime.errors import EngineFatal, LockgateError
from runtime.messages.flight_record import FlightRecorder
from runtime.messages.wire import (
    Abort,
    Embed,
    Fatal,
    Ready,
    Stop,
    Submit,
    ToEngine,
)
from runtime.processes import kill_offspring
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
"""How long an engine that was idle waits for company: requests that come together are read in one
batch, which takes a third less time than one after another."""

PREPARING_SECONDS = 0.001
"""How often an engine with nothing else to do looks whether a request has been prepared."""

MAX_BURST = 8
"""Waits of that length at most; each follows a message that made the one before worthwhile."""

EXIT_ERROR = 1
"""Exit status after an error that nobody foresaw; its traceback is on stderr."""

EXIT_FATAL = 70
"""Exit status after a `Fatal` message (EX_SOFTWARE of sysexits): the engine could not load."""

EXIT_ENGINE_FATAL = 71
"""Exit status after a `Fatal` message: the engine broke while it served."""


def serve(core: EngineCore, border: Border) -> None:
    """Run until told to stop. A busy engine never waits for messages."""
    last_sent = time.monotonic()
    while True:
        for message in _receive(border, core):
            match message:
                case Submit(request):
                    core.submit(request)
                case Embed(embedding):
                    core.embed(embedding)
                case Abort(request_id):
                    core.abort(request_id)
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
    """A busy engine takes what is there; an idle one waits, and for the rest of a burst too."""
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
    configure_log()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the gateway's to handle
    config = _read_config(sys.stdin.buffer)
    _leave_with_parent(sys.stdin.buffer, config.address)
    border = ZmqBorder(config.address)
    status = 0
    try:
        _load_and_serve(config, border)
    except Exception as error:
        status = _say_why(error, border)
    border.close()
    return status


def _load_and_serve(config: WorkerConfig, border: Border) -> None:
    tokenizer = load_tokenizer(config.model_path)
    engine = create_engine(config.engine, config.model_path, tokenizer)
    gc.collect()
    gc.freeze()  # the vocabulary lives as long as the process: never walk it again
    info = msgspec.structs.replace(engine.info, pid=os.getpid())
    border.send(Ready(engine.limits, info))
    recorder = FlightRecorder(config.record)
    serve(EngineCore(engine, tokenizer, config.engine, recorder.write), border)
    recorder.close()
    engine.close()  # a broken engine is not closed, which may block: its process just ends


def _say_why(error: Exception, border: Border) -> int:
    match error:
        case EngineFatal():
            reason, status = str(error), EXIT_ENGINE_FATAL
        case LockgateError():
            reason, status = str(error), EXIT_FATAL
        case _:
            reason, status = f"{type(error).__name__}: {error}", EXIT_ERROR
            with contextlib.suppress(OSError):  # a full disk: the gateway is told all the same
                traceback.print_exception(error)
    border.send(Fatal(reason))
    return status


def _leave(status: int) -> NoReturn:
    """End this process and what the engine has started. Handlers that libraries have left for the
    exit do not run: they may wait for a process that is dead."""
    kill_offspring(os.getpid())
    os._exit(status)


def _read_config(stream: BinaryIO) -> WorkerConfig:
    size = int.from_bytes(stream.read(4), "big")
    return msgspec.msgpack.decode(stream.read(size), type=WorkerConfig)


def _leave_with_parent(stream: BinaryIO, address: str) -> None:
    def watch() -> None:
        # Not `stream.read()`: a buffered reader's lock must not be held when Python shuts down.
        os.read(stream.fileno(), 1)
        if address.startswith("ipc://"):
            shutil.rmtree(Path(address.removeprefix("ipc://")).parent, ignore_errors=True)
        _leave(0)  # a step may run for seconds in native code; nothing is left to save

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


# The guard matters: an engine that starts processes with MPI imports this module in each of them
# under another name (docs/tensorrt-llm-contract.md, 1.1).
if __name__ == "__main__":
    exit_status = main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    _leave(exit_status)
