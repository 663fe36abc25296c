"""Who works on a response: the process of a server, by a name that others can read."""

import os
import platform
import secrets

import psutil

CLOCK_SECONDS = 60.0
"""By how much the start of a process may seem to move when a clock is set."""


def new_holder() -> str:
    """A name for this process: its machine, its number, its start, and something that no other
    holder in this process has."""
    started = psutil.Process().create_time()
    return f"{platform.node()}/{os.getpid()}/{started:.0f}/{secrets.token_hex(8)}"


def is_gone(holder: str) -> bool:
    """Whether a holder was a process of this machine that has ended. False if that is not known."""
    node, pid, started, _ = holder.rsplit("/", 3)
    if node != platform.node():
        return False
    try:
        found: float = psutil.Process(int(pid)).create_time()
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
    return abs(found - float(started)) > CLOCK_SECONDS
