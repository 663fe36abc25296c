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


def continue_when_parent_dies() -> None:
    """Make Linux continue this process, if it is stopped, when its parent dies. A process that
    watches for the end of its parent would not notice it otherwise. Other systems have nothing of
    the kind.

    For Linux the parent is a thread. If that thread ends alone, the signal does nothing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)


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
