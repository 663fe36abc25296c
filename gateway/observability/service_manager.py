"""What systemd is told of this process, if it asked: that it serves, that it is alive, its state.

The protocol is datagrams of `NAME=value` lines to the socket that NOTIFY_SOCKET names.
"""

import contextlib
import os
import socket
import sys
import time
from collections.abc import MutableMapping

import structlog

log = structlog.get_logger(__name__)

SOCKET_VARIABLE = "NOTIFY_SOCKET"
WATCHDOG_VARIABLES = ("WATCHDOG_USEC", "WATCHDOG_PID")

SEND_SECONDS = 0.1
"""Longest time for a message. The event loop sends them, and systemd reads them at once."""


class ServiceManager:
    """The service manager of this process; nobody if `address` is empty.

    `watchdog` is the number of seconds without a sign of life after which the manager kills the
    process; 0 is never.
    """

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self._address = address
        self._interval = watchdog / 3
        self._next_sign = 0.0
        self._status = ""

    def ready(self) -> None:
        """Say that requests are taken from now on."""
        self._tell("READY=1")

    def alive(self, status: str) -> None:
        """Say that the process gets on, as often as the watchdog wants to hear it, and its `status`
        in a line of text, as often as it changes. Cheap: the event loop calls it all the time."""
        now = time.monotonic()
        if self._interval and now >= self._next_sign:
            self._next_sign = now + self._interval
            self._tell("WATCHDOG=1")
        line = " ".join(status.split())
        if line != self._status:
            self._status = line
            self._tell(f"STATUS={line}")

    def stopping(self) -> None:
        """Say that the process takes nothing new and is about to end."""
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if sys.platform == "win32" or not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(SEND_SECONDS)
                sender.sendto(message.encode(errors="replace"), self._address)
        except OSError as error:
            reason = error.strerror or str(error)
            log.warning("service_manager_not_told", message=message, reason=reason)


def find_service_manager(environ: MutableMapping[str, str]) -> ServiceManager:
    """The manager that the environment names. Takes its variables out of the environment, so that
    processes which this one starts do not speak for it."""
    address = environ.pop(SOCKET_VARIABLE, "")
    microseconds, pid = (environ.pop(name, "") for name in WATCHDOG_VARIABLES)
    if address[:1] not in ("/", "@"):
        return ServiceManager()
    watchdog = 0.0
    if pid in ("", str(os.getpid())):
        with contextlib.suppress(ValueError):
            watchdog = int(microseconds) / 1e6
    return ServiceManager(_path_of(address), watchdog)


def _path_of(address: str) -> str:
    """An "@" at the beginning stands for the zero byte of Linux's abstract sockets."""
    return "\0" + address[1:] if address.startswith("@") else address
