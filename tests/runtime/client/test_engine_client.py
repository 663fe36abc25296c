"""The gateway's side of the border: what does not fit is refused, and told when to come back."""

import time

import msgspec
import pytest

from runtime.client.engine_client import UNAVAILABLE_RETRY_SECONDS, EngineClient
from runtime.client.service_rate import DEFAULT_RETRY_AFTER
from runtime.errors import (
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    EngineUnavailable,
    InvalidRequest,
)
from runtime.messages.engine import EngineStats
from runtime.messages.request import RequestOutput
from runtime.messages.wire import Abort, RequestFailed, StepOutput, Submit, ToEngine, with_times
from tests.kit.engines import a_request, ready

pytestmark = pytest.mark.anyio


READY = ready(max_num_seqs=1, max_num_waiting=2)


@pytest.fixture
def sent() -> list[ToEngine]:
    return []


@pytest.fixture
def client(sent: list[ToEngine]) -> EngineClient:
    """Room for three."""
    client = EngineClient()
    client.connected(sent.append, READY)
    return client


def finish(client: EngineClient, request_id: str, num_waiting: int = 0) -> None:
    output = RequestOutput(request_id, [1], "x", "stop")
    client.receive(StepOutput([output], EngineStats(num_waiting=num_waiting)))


async def test_room_is_asked_for_without_taking_it(client, sent):
    client.submit([a_request("a"), a_request("b")])

    client.check_room(1)
    client.check_room(1)
    with pytest.raises(EngineOverloaded) as refused:
        client.check_room(2)
    with pytest.raises(InvalidRequest, match="at most 3"):
        client.check_room(4)

    assert refused.value.retry_after == DEFAULT_RETRY_AFTER
    assert [type(message) for message in sent] == [Submit, Submit]
    finish(client, "a")
    client.check_room(2)


async def test_there_is_no_room_where_no_engine_is_or_comes_back(client):
    with pytest.raises(EngineUnavailable):
        EngineClient().check_room(1)
    never_ready = EngineClient()
    never_ready.lost("restarting", "It died while it loaded.")
    with pytest.raises(EngineUnavailable, match="loaded"):
        never_ready.check_room(1)
    client.lost("failed", "The engine died.")
    with pytest.raises(EngineUnavailable, match="died"):
        client.submit([a_request("a")])


async def test_a_request_that_cannot_be_sent_takes_no_place():
    """Nor do the other choices of its answer, of which one has been sent."""
    sent: list[ToEngine] = []

    def send(message: ToEngine) -> None:
        if isinstance(message, Submit) and message.request.request_id == "b":
            raise OverflowError
        sent.append(message)

    client = EngineClient()
    client.connected(send, READY)
    for _ in range(3):
        with pytest.raises(OverflowError):
            client.submit([a_request("a"), a_request("b"), a_request("c")])

    assert client.num_in_flight == 0
    client.check_room(3)
    submitted = [each.request for each in sent if isinstance(each, Submit)]
    assert submitted == [a_request("a")] * 3
    assert [each for each in sent if isinstance(each, Abort)] == [*map(Abort, "abc")] * 3


async def test_prompts_that_wait_are_bounded_in_tokens_too(sent):
    client = EngineClient(max_num_waiting_tokens=5)
    client.connected(sent.append, READY)
    long = msgspec.structs.replace(a_request("long"), prompt_token_ids=[1] * 9)
    client.submit([long])  # nobody waits before it, so that it can be served at all
    with pytest.raises(EngineOverloaded, match="that wait: 9"):
        client.submit([a_request("b")])
    assert [type(message) for message in sent] == [Submit]

    client.receive(StepOutput([RequestOutput("long", [1], "x", None)], EngineStats()))
    client.submit([a_request("b")])  # `long` has its first token
    with pytest.raises(EngineOverloaded, match="that wait: 1"):
        client.submit([msgspec.structs.replace(a_request("c"), prompt_token_ids=[1] * 5)])
    client.submit([msgspec.structs.replace(a_request("c"), prompt_token_ids=[1] * 4)])


async def test_what_comes_while_the_engine_restarts_waits_for_it_in_order(client, sent):
    client.submit([a_request("a")])
    client.lost("restarting", "The engine died.")
    sent.clear()
    streams = [client.submit([a_request(request_id)]) for request_id in ("b", "c")]
    with pytest.raises(EngineOverloaded):
        client.submit([a_request("d")])
    assert sent == []

    client.connected(sent.append, READY)

    assert [message.request.request_id for message in sent] == ["a", "b", "c"]  # type: ignore[union-attr]
    finish(client, "c")
    assert [output.text for output in await anext(streams[1])] == ["x"]


async def test_nobody_waits_for_an_engine_beyond_the_deadline(client, sent):
    client.lost("restarting", "The engine died.")
    now = time.monotonic()
    late, patient = (
        msgspec.structs.replace(a_request(name), arrival_time=now, deadline=now + seconds)
        for name, seconds in (("late", 0.01), ("patient", 60))
    )
    streams = [client.submit([late]), client.submit([patient])]

    with pytest.raises(DeadlineExceeded, match="waited 0 seconds for an engine"):
        await anext(streams[0])

    client.connected(sent.append, READY)
    [message] = sent
    assert isinstance(message, Submit)
    assert message.seconds_left == pytest.approx(60, abs=5)
    there = with_times(message, 1000.0)  # an engine with another clock
    assert there.arrival_time <= 1000.0 < 1050.0 < there.deadline <= 1060.0
    assert msgspec.structs.replace(there, arrival_time=now, deadline=now + 60) == patient


async def test_who_has_no_token_when_the_engine_is_given_up_may_come_back(client):
    begun, waiting = client.submit([a_request("a")]), client.submit([a_request("b")])
    client.receive(StepOutput([RequestOutput("a", [1], "x", None)], EngineStats()))
    await anext(begun)

    client.lost("failed", "It died too often.")

    with pytest.raises(EngineUnavailable, match="too often") as unavailable:
        await anext(waiting)
    assert unavailable.value.retry_after == UNAVAILABLE_RETRY_SECONDS
    with pytest.raises(EngineError, match="too often"):
        await anext(begun)
    assert client.num_in_flight == 0


async def test_a_request_whose_deadline_came_is_told_when_the_queue_is_served(client):
    """The engine's own word on it is 0."""
    for request_id in ("a", "b"):
        client.submit([a_request(request_id)])
        finish(client, request_id)
    stream = client.submit([a_request("c")])

    client.receive(RequestFailed("c", "expired", "It waited until its deadline."))

    with pytest.raises(DeadlineExceeded, match="deadline") as expired:
        await anext(stream)
    assert 1.0 <= expired.value.retry_after < DEFAULT_RETRY_AFTER
    assert client.num_in_flight == 0


async def test_an_answer_of_which_one_request_expires_ends_as_a_whole(client, sent):
    stream = client.submit([a_request("a"), a_request("b")])

    client.receive(RequestFailed("b", "expired", "It waited until its deadline."))

    with pytest.raises(DeadlineExceeded):
        await anext(stream)
    assert sent[-1] == Abort("a")
    assert client.num_in_flight == 0
