"""What the tests ask of processes that have started others."""

import psutil


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs still.

    A process that has ended stays in the table as a zombie until its parent has looked; an orphan's
    new parent is the machine's init, which looks late in some containers and in others never.
    """
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
