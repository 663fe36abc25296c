"""Processes that were started: whether they live, and how they end with all that they started.

An engine may start processes of its own: TensorRT-LLM runs the model in one that MPI starts. They
are found as descendants while their parents live, and afterwards by their session: the engine
process begins a session, and MPI gives its processes groups of their own but not sessions.
"""

import contextlib
import ctypes
import os
import signal
import sys

import psutil

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl.h."""

_CRASH_SIGNALS = frozenset(
    getattr(signal, name)
    for name in ("SIGILL", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV")
    if hasattr(signal, name)
)

_ABORTED = 3
"""What C's `abort` leaves as the exit status on Windows."""

_FIRST_EXCEPTION = 0xC0000000
"""From here on, an exit status is an exception of Windows. POSIX has none above 255."""

_EXCEPTIONS = {
    0xC0000005: "access violation",
    0xC0000006: "the file behind mapped memory cannot be read",
    0xC0000017: "out of memory",
    0xC000001D: "illegal instruction",
    0xC0000094: "division by zero",
    0xC00000FD: "stack overflow",
    0xC0000135: "a library is missing",
    0xC0000409: "abort",
}
"""Those that engines end with."""


def continue_when_parent_dies() -> None:
    """Make Linux continue this process, if it is stopped, when its parent dies. A process that
    watches for the end of its parent would not notice it otherwise. Other systems have nothing of
    the kind.

    For Linux the parent is a thread. If that thread ends alone, the signal does nothing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)


def ignore_interrupts() -> None:
    """Leave Ctrl-C, and Ctrl-Break on Windows, to the gateway. A terminal sends them to all
    processes that run in it."""
    for name in ("SIGINT", "SIGBREAK"):
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_IGN)


def was_cut_short(status: int) -> bool:
    """Whether a process with this exit status was ended by a signal or, on Windows, by an exception
    that nobody has handled."""
    return status < 0 or _is_crash_on_windows(status)


def has_crashed(status: int) -> bool:
    """Whether a process with this exit status ended of a mistake in its own code: neither was it
    killed from outside, nor for its memory."""
    return -status in _CRASH_SIGNALS or _is_crash_on_windows(status)


def how_it_ended(status: int) -> str:
    """An exit status in words, such as "signal 9", "status 1" or "exception 0xC0000005 (access
    violation)"."""
    if status < 0:
        return f"signal {-status}"
    if status < _FIRST_EXCEPTION:
        return f"status {status}"
    name = _EXCEPTIONS.get(status)
    return f"exception 0x{status:08X}{f' ({name})' if name else ''}"


def _is_crash_on_windows(status: int) -> bool:
    return status >= _FIRST_EXCEPTION or (sys.platform == "win32" and status == _ABORTED)


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs still.

    A process that has ended stays in the table as a zombie until its parent has looked; an orphan's
    new parent is the machine's init, which looks late in some containers and in others never.
    """
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it has ended between the two questions
        return False


def descendants(pid: int) -> list[psutil.Process]:
    """The children of a process and theirs; empty when it is gone."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def session_members(session: int) -> list[psutil.Process]:
    """All processes of a session but its leader and this process; always empty on Windows."""
    if sys.platform == "win32":
        return []
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if pid not in (session, os.getpid()) and os.getsid(pid) == session:
                members.append(psutil.Process(pid))
    return members


def kill(processes: list[psutil.Process]) -> None:
    """Kill what still lives of these. psutil knows when a number has passed to somebody else."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def kill_offspring(pid: int) -> None:
    """Kill everything that the leader of a session has started and that it is not itself."""
    kill([*descendants(pid), *session_members(pid)])
