"""A connection that no silent server holds for ever."""

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from msgspec import Struct
from psycopg import errors
from psycopg.waiting import wait_selector

from gateway.store.postgres.address import Address

LOCK_KEY = 0x6C6F636B67617465
"""The advisory lock of whoever changes something: the word "lockgate"."""

LOCK = f"SELECT pg_advisory_xact_lock({LOCK_KEY})"
"""Waits for the lock, which the end of the transaction gives back."""

_LOST = ("08", "57P")
"""Beginnings of the codes with which a server ends a connection. A code that begins with 57P can
also mean that it accepts none yet."""

_LOOK = 0.1
"""Seconds between two looks whether a silent server has been so for too long."""

T = TypeVar("T")

logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of what it also raises


class Limits(Struct, frozen=True, kw_only=True):
    """Times in seconds. The server ends a statement that takes longer than `statement`, one that
    waits for a lock longer than `lock`, and a transaction in which the gateway says nothing for
    `idle`. A server that says nothing for `silence` has gone. Changes wait for a server that is
    away, but not when it has been away for `patience`. The time between two attempts to connect is
    `pause` at first, then twice as much each time, up to `max_pause`."""

    statement: float = 30.0
    lock: float = 10.0
    idle: float = 30.0
    silence: float = 40.0
    patience: float = 5.0
    pause: float = 0.1
    max_pause: float = 1.0


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """While `silence` is not None, a server that says nothing for so many seconds loses the
    connection, which raises OperationalError."""

    silence: float | None = None

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **more: Any) -> T:
        """Runs all that needs the server."""
        if self.silence is None:
            return super().wait(gen, *args, **more)
        return wait_selector(self._watched(gen), self.pgconn.socket, interval=_LOOK)

    def _watched(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        assert self.silence is not None
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                if ready := (yield wanted):
                    heard = time.monotonic()
                elif time.monotonic() - heard > self.silence:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(
                        f"the server has said nothing for {self.silence:g} seconds"
                    )
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def connect(address: Address, limits: Limits) -> Connection:
    """A connection on which every statement is a transaction of its own unless it says BEGIN.
    Raises psycopg's errors."""
    connection = Connection.connect(**address.parameters, autocommit=True)
    try:
        connection.silence = limits.silence
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        connection.execute(_SESSION, _session_values(limits))
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def unhurried(connection: Connection, limits: Limits) -> Iterator[None]:
    """What is asked meanwhile may take as long as it takes."""
    connection.silence = None
    connection.execute(_STATEMENT_TIMEOUT, ["0"])
    try:
        yield
    finally:
        connection.silence = limits.silence
        if not connection.closed:
            connection.execute(_STATEMENT_TIMEOUT, _session_values(limits)[:1])


def is_lost(connection: psycopg.Connection[Any], error: psycopg.Error) -> bool:
    """Whether nothing more can be asked on this connection, or should be: a server that only reads
    is no longer the one to write to."""
    if connection.closed or isinstance(error, errors.ReadOnlySqlTransaction):
        return True
    return (error.sqlstate or "").startswith(_LOST)


_NAMES = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
)
_STATEMENT_TIMEOUT = "SELECT set_config('statement_timeout', %s, false)"
_SESSION = "SELECT " + ", ".join(f"set_config('{name}', %s, false)" for name in _NAMES)


def _session_values(limits: Limits) -> list[str]:
    """In milliseconds."""
    return [str(round(1000 * each)) for each in (limits.statement, limits.lock, limits.idle)]
