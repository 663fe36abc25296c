"""The gateway's end of the socket: everything arrives in order, and the loop gets its turns."""

import asyncio
import time
from pathlib import Path

import anyio
import pytest
import zmq

from runtime.client.channel import MAX_MESSAGES_PER_TURN, Channel
from runtime.messages.engine import EngineStats
from runtime.messages.wire import Abort, FromEngine, StepOutput, decode_to_engine, encode

pytestmark = pytest.mark.anyio


class Engine:
    """The other end."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.connect(address)

    def say(self, count: int) -> None:
        for number in range(count):
            self._socket.send(encode(StepOutput([], EngineStats(num_running=number))))

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


async def test_a_flood_leaves_the_loop_its_turns(tmp_path: Path):
    """However much is sent meanwhile, no turn of the loop takes more than its share."""
    received: list[FromEngine] = []
    channel = Channel(f"ipc://{tmp_path}/socket", received.append)
    engine = Engine(channel.address)
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


async def test_messages_of_one_turn_leave_together_and_in_order(tmp_path: Path):
    received: list[FromEngine] = []
    channel = Channel(f"ipc://{tmp_path}/socket", received.append)
    engine = Engine(channel.address)
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


async def test_what_cannot_be_sent_is_its_senders_error_alone(tmp_path: Path):
    received: list[FromEngine] = []
    channel = Channel(f"ipc://{tmp_path}/socket", received.append)
    engine = Engine(channel.address)
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


async def test_an_arrival_whose_edge_was_swallowed_is_read_all_the_same(tmp_path: Path):
    """The descriptor tells of an arrival once. Work on the socket takes that edge away, and then
    only a look after sending finds the message."""
    received: list[FromEngine] = []
    channel = Channel(f"ipc://{tmp_path}/socket", received.append)
    engine = Engine(channel.address)
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


async def test_closing_waits_for_no_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """libzmq may never finish with a context in which a socket's peer was killed."""
    terminated: list[object] = []
    monkeypatch.setattr(zmq.Context, "term", terminated.append)
    channel = Channel(f"ipc://{tmp_path}/socket", print)

    channel.close()

    assert terminated == []
