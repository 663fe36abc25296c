"""Modules of the standard library, and psutil, as they are on Windows."""

import asyncio as _asyncio
import errno as _errno
import os as _os
import re
import select as _select
import selectors as _selectors
import signal as _signal
import socket as _socket
import subprocess as _subprocess
import sys as _sys
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any

import psutil as _psutil

MAX_SELECTED = 512
"""Sockets that Python's `select` takes on Windows."""

CTRL_BREAK = _signal.SIGQUIT
"""What a test sends instead."""

EXIT_STATUSES = {
    _signal.SIGABRT: 3,
    _signal.SIGBUS: 0xC0000006,
    _signal.SIGFPE: 0xC0000094,
    _signal.SIGILL: 0xC000001D,
    _signal.SIGKILL: 1,
    _signal.SIGSEGV: 0xC0000005,
    _signal.SIGTERM: 15,
}
"""The status of a process that ended as Linux ends one by a signal."""


class Imitation:
    """A module with other attributes, and without those that are `absent`. What a test sets on
    either module holds for both."""

    def __init__(self, real: ModuleType, absent: Iterable[str] = (), **other: Any) -> None:
        originals = {name: getattr(real, name, None) for name in other}
        own = {"_real": real, "_absent": set(absent), "_other": other, "_originals": originals}
        own["_before"] = {}
        for name, value in own.items():
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name in self._absent:
            raise AttributeError(f"module {self._real.__name__!r} has no attribute {name!r}")
        is_other = name in self._other and getattr(self._real, name, None) is self._originals[name]
        return self._other[name] if is_other else getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._other and value is self._other[name]:
            value = self._originals[name]  # a test puts back what it found
        elif hasattr(self._real, name):
            self._before.setdefault(name, getattr(self._real, name))
        setattr(self._real, name, value)

    def __delattr__(self, name: str) -> None:
        """Undoes `setattr`: to pytest, these attributes are not the module's own."""
        if name in self._before:
            setattr(self._real, name, self._before[name])
        else:
            delattr(self._real, name)


def _rename(source: Any, target: Any) -> None:
    if _os.path.lexists(target):
        raise FileExistsError(_errno.EEXIST, "Cannot create a file when that file exists", target)
    _os.rename(source, target)


sys = Imitation(_sys, platform="win32")

os = Imitation(
    _os,
    (
        *("chown", "fchmod", "fork", "geteuid", "getgid", "getpgid", "getsid", "getuid", "kill"),
        *("killpg", "mkfifo", "nice", "sched_getaffinity", "setpriority", "setsid", "statvfs"),
        *("sysconf", "uname", "waitpid", "PRIO_PROCESS", "WNOHANG"),
    ),
    name="nt",
    rename=_rename,
)

_HANDLED = ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM")


def _handle(number: int, handler: Any) -> Any:
    if number not in (CTRL_BREAK, *(getattr(_signal, name) for name in _HANDLED)):
        raise ValueError("invalid signal value")
    return _signal.signal(number, handler)


_SIGNALS = [name for name in dir(_signal) if re.fullmatch("SIG[A-Z0-9]+", name)]

signal = Imitation(
    _signal,
    [name for name in _SIGNALS if name not in _HANDLED],
    signal=_handle,
    SIGBREAK=CTRL_BREAK,
)


class _Socket(_socket.socket):
    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        if option != _socket_values["SO_EXCLUSIVEADDRUSE"]:
            super().setsockopt(level, option, *value)


_socket_values = {"SO_EXCLUSIVEADDRUSE": ~_socket.SO_REUSEADDR}
socket = Imitation(_socket, ["AF_UNIX"], socket=_Socket, **_socket_values)
select = Imitation(_select, ["poll", "epoll"])


class Popen(_subprocess.Popen):  # type: ignore[type-arg]
    """It ends with a status and not by a signal, and there are no sessions."""

    def __init__(self, *args: Any, **options: Any) -> None:
        for name in ("start_new_session", "creationflags"):
            options.pop(name, None)
        super().__init__(*args, **options)

    @property
    def returncode(self) -> Any:
        status = self._status
        return EXIT_STATUSES[-status] if status is not None and status < 0 else status

    @returncode.setter
    def returncode(self, value: int | None) -> None:
        self._status = value

    def terminate(self) -> None:
        self.kill()


_run = FunctionType(_subprocess.run.__code__, {**vars(_subprocess), "Popen": Popen})
_run.__kwdefaults__ = _subprocess.run.__kwdefaults__

subprocess = Imitation(_subprocess, Popen=Popen, run=_run, CREATE_NEW_PROCESS_GROUP=0x200)


class _Selector(_selectors.SelectSelector):
    def select(self, timeout: float | None = None) -> Any:
        if len(self.get_map()) > MAX_SELECTED:
            raise ValueError("too many file descriptors in select()")
        return super().select(timeout)


class SelectorEventLoop(_asyncio.SelectorEventLoop):
    """It watches so many sockets as Windows can, and starts no processes."""

    def __init__(self, selector: _selectors.BaseSelector | None = None) -> None:
        super().__init__(selector or _Selector())

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:
        raise NotImplementedError

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError

    subprocess_shell = create_unix_server = create_unix_connection = subprocess_exec


asyncio = Imitation(_asyncio, SelectorEventLoop=SelectorEventLoop)
psutil = Imitation(_psutil, BELOW_NORMAL_PRIORITY_CLASS=10)
