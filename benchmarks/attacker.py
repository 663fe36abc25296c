"""Sends attacks, from a process of its own: building and sending them is not in other times."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from attacks import Attack, attack_named
from wire import HOST, Connection, connect, new_event_loop

T = TypeVar("T")

PATIENCE = 120.0
UPLOAD_SECONDS = 5.0
"""How long many clients at once wait: those that never send all would wait for ever."""

_prepared: list[Attack] = []


class Attacker:
    """The attacker's process. An attack is built first, then sent."""

    def __init__(self) -> None:
        self._process = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    async def prepare(self, model: str, name: str) -> None:
        """Builds what `send` sends."""
        await self._call(_prepare, model, name)

    async def send(self, port: int) -> str:
        """Sends the attack to a server. Returns how many answers had which status."""
        return await self._call(_send, port)

    def close(self) -> None:
        self._process.shutdown()

    async def _call(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._process, function, *args)


def _prepare(model: str, name: str) -> None:
    _prepared[:] = [attack_named(model, name)]


def _send(port: int) -> str:
    loop = new_event_loop()
    try:
        return loop.run_until_complete(_all_clients(port, _prepared[0]))
    finally:
        loop.close()


async def _all_clients(port: int, attack: Attack) -> str:
    clients = [_one_client(port, attack) for _ in range(attack.connections)]
    statuses = await asyncio.gather(*clients)
    return " ".join(f"{status}×{statuses.count(status)}" for status in sorted(set(statuses)))


async def _one_client(port: int, attack: Attack) -> str:
    if attack.leaves:
        await asyncio.wait_for(_send_and_leave(port, attack.sent), PATIENCE)
        return "left"
    connection = await connect(port)
    patience = UPLOAD_SECONDS if attack.connections > 50 else PATIENCE
    try:
        reply = await asyncio.wait_for(_exchange(connection, attack), patience)
        return reply.split(b" ", 2)[1].decode()
    except TimeoutError:
        return "none"
    except Exception as error:  # the server may close: that is an answer too
        return type(error).__name__
    finally:
        connection.close()


async def _exchange(connection: Connection, attack: Attack) -> bytes:
    """The answer to what is sent piece by piece."""
    size = attack.piece or len(attack.sent)
    sending = asyncio.create_task(_send_rest(connection, attack, size))
    try:
        return (await connection.exchange(attack.sent[:size])).joined()
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending


async def _send_rest(connection: Connection, attack: Attack, size: int) -> None:
    for start in range(size, len(attack.sent), size):
        await asyncio.sleep(attack.pause)
        connection.send(attack.sent[start : start + size])


async def _send_and_leave(port: int, data: bytes) -> None:
    """Sends without waiting for an answer."""
    _, writer = await asyncio.open_connection(HOST, port)
    writer.transport.set_write_buffer_limits(0)  # all of it is on its way before `drain` returns
    writer.write(data)
    await writer.drain()
    writer.close()
