"""The gateway's end of the socket: everything arrives in order, and the loop gets its turns."""

import asyncio
import contextlib
import socket
import time
from pathlib import Path

import anyio
import pytest
import zmq

from runtime.client.channel import MAX_MESSAGES_PER_TURN, Channel
from runtime.messages.engine import EngineStats
from runtime.messages.wire import Abort, FromEngine, StepOutput, decode_to_engine, encode
from tests.kit.platform import IS_WINDOWS

pytestmark = pytest.mark.anyio


TCP = "tcp://127.0.0.1:*"


@pytest.fixture(params=["ipc", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a channel is to be: what POSIX takes, and what Windows takes."""
    if request.param == "tcp":
        return TCP
    if IS_WINDOWS:
        pytest.skip("Windows has no such sockets")
    return f"ipc://{tmp_path}/socket"


class Engine:
    """The other end."""

    def __init__(self, address: str, key: str = "") -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        if key:
            self._socket.curve_publickey, self._socket.curve_secretkey = zmq.curve_keypair()
            self._socket.curve_serverkey = key.encode()
        self._socket.connect(address)

    def say(self, count: int) -> None:
        for number in range(count):
            self._socket.send(encode(StepOutput([], EngineStats(num_running=number))))

    def try_to_say(self) -> None:
        """As much as goes at once: ZeroMQ takes nothing from who was refused."""
        with contextlib.suppress(zmq.Again):
            self._socket.send(encode(StepOutput([], EngineStats(num_running=99))), zmq.NOBLOCK)

    def hear(self, count: int) -> list[object]:
        frames = []
        while len(frames) < count and self._socket.poll(5000):
            frames.append(self._socket.recv())
        return [decode_to_engine(frame) for frame in frames]

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()


async def first(received: list[FromEngine]) -> None:
    with anyio.fail_after(10):
        while not received:  # noqa: ASYNC110 -- the loop's turns are what is tested
            await asyncio.sleep(0)


async def test_a_flood_leaves_the_loop_its_turns(address: str):
    """However much is sent meanwhile, no turn of the loop takes more than its share."""
    received: list[FromEngine] = []
    channel = Channel(address, received.append)
    engine = Engine(channel.address, channel.key)
    per_turn: list[int] = []
    try:
        engine.say(80)
        await first(received)
        with anyio.fail_after(10):
            while len(received) < 80:
                before = len(received)
                for number in range(5):
                    channel.send(Abort(str(number)))
                await asyncio.sleep(0)
                per_turn.append(len(received) - before)
    finally:
        engine.close()
        channel.close()

    numbers = [message.stats.num_running for message in received if isinstance(message, StepOutput)]
    assert numbers == list(range(80))
    # a turn may hold the descriptor's own callback beside the chain's
    assert max(per_turn) <= 2 * MAX_MESSAGES_PER_TURN


async def test_messages_of_one_turn_leave_together_and_in_order(address: str):
    received: list[FromEngine] = []
    channel = Channel(address, received.append)
    engine = Engine(channel.address, channel.key)
    try:
        engine.say(1)
        await first(received)
        for number in range(50):
            channel.send(Abort(str(number)))

        heard = await asyncio.to_thread(engine.hear, 50)
    finally:
        engine.close()
        channel.close()
        channel.close()

    assert heard == [Abort(str(number)) for number in range(50)]


async def test_what_cannot_be_sent_is_its_senders_error_alone(address: str):
    received: list[FromEngine] = []
    channel = Channel(address, received.append)
    engine = Engine(channel.address, channel.key)
    loop_errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
    try:
        engine.say(1)
        await first(received)
        with pytest.raises(OverflowError):
            channel.send(EngineStats(num_running=2**70))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        channel.send(Abort("a"))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(engine.hear, 1) == [Abort("a")]
    finally:
        engine.close()
        channel.close()
    assert loop_errors == []


async def test_an_arrival_whose_edge_was_swallowed_is_read_all_the_same(address: str):
    """The descriptor tells of an arrival once. Work on the socket takes that edge away, and then
    only a look after sending finds the message."""
    received: list[FromEngine] = []
    channel = Channel(address, received.append)
    engine = Engine(channel.address, channel.key)
    try:
        engine.say(1)
        await first(received)
        received.clear()
        engine.say(1)
        deadline = time.monotonic() + 10
        # no await in between: the loop does not see the edge that this question takes away
        while not channel._socket.get(zmq.EVENTS) & zmq.POLLIN:
            assert time.monotonic() < deadline
        channel.send(Abort("a"))
        await first(received)
    finally:
        engine.close()
        channel.close()

    assert len(received) == 1


async def test_strangers_cannot_connect_over_tcp_nor_keep_the_engine_out():
    """They come first, stay, and speak as an engine would: without a key, with one of their own,
    and as something else. The engine is heard all the same, and nobody else."""
    received: list[FromEngine] = []
    channel = Channel(TCP, received.append)
    port = int(channel.address.rpartition(":")[2])
    others = [Engine(channel.address), Engine(channel.address, zmq.curve_keypair()[0].decode())]
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    try:
        for connection in connections:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        for other in others:
            other.try_to_say()
        others.append(engine := Engine(channel.address, channel.key))
        engine.say(1)
        await first(received)
        others.append(Engine(channel.address))
        others[-1].try_to_say()
        channel.send(Abort("a"))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(engine.hear, 1) == [Abort("a")]
        engine.say(1)
        with anyio.fail_after(10):
            while len(received) < 2:  # noqa: ASYNC110 -- the loop's turns deliver
                await asyncio.sleep(0)
    finally:
        for other in others:
            other.close()
        for connection in connections:
            connection.close()
        channel.close()

    numbers = [message.stats.num_running for message in received if isinstance(message, StepOutput)]
    assert numbers == [0, 0]


async def test_every_channel_has_a_key_of_its_own():
    channels = [Channel(TCP, print) for _ in range(2)]
    for channel in channels:
        channel.close()

    assert len({channel.key for channel in channels} - {""}) == 2


async def test_closing_waits_for_no_context(address: str, monkeypatch: pytest.MonkeyPatch):
    """libzmq may never finish with a context in which a socket's peer was killed."""
    terminated: list[object] = []
    monkeypatch.setattr(zmq.Context, "term", lambda context: terminated.append(context))
    channel = Channel(address, print)

    channel.close()

    assert terminated == []
