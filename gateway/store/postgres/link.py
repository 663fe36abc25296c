"""A connection that comes back when the server does."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
import structlog
from psycopg import errors

from gateway.errors import StoreFull, StoreUnavailable
from gateway.store.postgres.address import Address
from gateway.store.postgres.connection import Connection, Limits, connect, is_lost
from gateway.store.postgres.tables import prepare
from runtime.errors import SetupError

log = structlog.get_logger(__name__)

_AWAY = "The store cannot be used now: its database does not answer."

T = TypeVar("T")


class Link:
    """Has a connection to the database at `address`, or makes another. `limits` say how long that
    may take."""

    def __init__(self, address: Address, limits: Limits) -> None:
        """Raises SetupError if the database cannot be used."""
        self.limits = limits
        self.address = address
        self._reason = ""
        self._away_since = self._next_attempt = 0.0
        self._pause = limits.pause
        try:
            self._connection: Connection | None = self._connected()
        except psycopg.Error as error:
            reason = address.without_secrets(error)
            raise SetupError(f"store.url: {address} cannot be used: {reason}") from error

    def connection(self, patience: float = 0.0) -> Connection:
        """The connection, or another if it is lost. There is an attempt to connect unless the last
        one was a moment ago, and there are further ones while the server has not been away for
        longer than `patience` in seconds. Raises StoreUnavailable."""
        while self._connection is None:
            pause = self._next_attempt - time.monotonic()
            if pause > 0:
                if self._next_attempt > self._away_since + patience:
                    raise StoreUnavailable(_AWAY)
                time.sleep(pause)
            self._try_again()
        return self._connection

    def ask(self, question: Callable[[Connection], T], patience: float = 0.0) -> T:
        """The answer to what changes nothing. It is asked a second time, on another connection, if
        this one turns out to be lost. Raises StoreUnavailable and psycopg's errors."""
        connection = self.connection(patience)
        try:
            return question(connection)
        except psycopg.Error as error:
            if not is_lost(connection, error):
                raise
            self.lose(error)
        return question(self.connection(patience))

    def lose(self, error: psycopg.Error) -> None:
        """The connection cannot be used any more."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._away_since = time.monotonic()
            self._reason = ""
            log.warning("store_connection_lost", reason=self.address.without_secrets(error))

    @contextmanager
    def told(self) -> Iterator[None]:
        """Says PostgreSQL's errors in the store's words, which clients read. Where the database is
        stands in the log alone."""
        try:
            yield
        except psycopg.Error as error:
            if self._connection is not None and is_lost(self._connection, error):
                self.lose(error)
            if isinstance(error, errors.DiskFull):
                raise StoreFull("The disk of the store's database is full.") from error
            reason = error.diag.message_primary
            said = f"The store cannot be used now: {reason}." if reason else _AWAY
            raise StoreUnavailable(said) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _connected(self) -> Connection:
        connection = connect(self.address, self.limits)
        try:
            prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _try_again(self) -> None:
        try:
            self._connection = self._connected()
        except (psycopg.Error, SetupError) as error:
            self._tell(self.address.without_secrets(error))
            self._next_attempt = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, self.limits.max_pause)
        else:
            self._pause = self.limits.pause
            log.info("store_connected_again")

    def _tell(self, reason: str) -> None:
        """Logs why there is no connection, unless that is known."""
        if reason != self._reason:
            log.warning("store_not_connected", reason=reason)
        self._reason = reason
