"""The gateway's side of the border: what does not fit is refused, and told when to come back."""

import pytest

from runtime import (
    DeadlineExceeded,
    EngineClient,
    EngineInfo,
    EngineLimits,
    EngineOverloaded,
    EngineStats,
    EngineUnavailable,
    InvalidRequest,
    Request,
    RequestOutput,
    SamplingParams,
    StepOutput,
)
from runtime.messages import Abort, Ready, RequestFailed, Submit, ToEngine
from runtime.service_rate import DEFAULT_RETRY_AFTER

pytestmark = pytest.mark.anyio

READY = Ready(
    EngineLimits(
        max_model_len=100,
        max_num_seqs=1,
        max_num_waiting=2,
        max_num_batched_tokens=100,
        num_kv_tokens=100,
    ),
    EngineInfo(engine="none", version="0", device="none"),
)


@pytest.fixture
def sent() -> list[ToEngine]:
    return []


@pytest.fixture
def client(sent: list[ToEngine]) -> EngineClient:
    """Room for three."""
    client = EngineClient()
    client.connected(sent.append, READY)
    return client


def request(request_id: str) -> Request:
    return Request(
        request_id=request_id, prompt_token_ids=[1], sampling=SamplingParams(max_tokens=1)
    )


def finish(client: EngineClient, request_id: str, num_waiting: int = 0) -> None:
    output = RequestOutput(request_id, [1], "x", "stop")
    client.receive(StepOutput([output], EngineStats(num_waiting=num_waiting)))


async def test_room_is_asked_for_without_taking_it(client, sent):
    client.submit([request("a"), request("b")])

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


async def test_there_is_no_room_while_no_engine_is_ready(client):
    with pytest.raises(EngineUnavailable):
        EngineClient().check_room(1)
    client.lost("restarting", "The engine died.")
    with pytest.raises(EngineUnavailable, match="died"):
        client.check_room(1)


async def test_a_request_whose_deadline_came_is_told_when_the_queue_is_served(client):
    """The engine's own word on it is 0."""
    for request_id in ("a", "b"):
        client.submit([request(request_id)])
        finish(client, request_id)
    stream = client.submit([request("c")])

    client.receive(RequestFailed("c", "expired", "It waited until its deadline."))

    with pytest.raises(DeadlineExceeded, match="deadline") as expired:
        await anext(stream)
    assert 1.0 <= expired.value.retry_after < DEFAULT_RETRY_AFTER
    assert client.num_in_flight == 0


async def test_an_answer_of_which_one_request_expires_ends_as_a_whole(client, sent):
    stream = client.submit([request("a"), request("b")])

    client.receive(RequestFailed("b", "expired", "It waited until its deadline."))

    with pytest.raises(DeadlineExceeded):
        await anext(stream)
    assert sent[-1] == Abort("a")
    assert client.num_in_flight == 0
