"""Adapters that come and go while engines come and go: none is lost, none freed too early."""

import asyncio
from typing import Any

import msgspec
import pytest

from runtime.client.engine_client import EngineClient
from runtime.errors import EngineUnavailable, InvalidRequest
from runtime.messages.engine import EngineStats
from runtime.messages.request import RequestOutput
from runtime.messages.wire import (
    AdapterAnswer,
    LoadAdapter,
    Ready,
    StepOutput,
    Submit,
    ToEngine,
    UnloadAdapter,
)
from tests.kit.engines import READY, a_request

pytestmark = pytest.mark.anyio

CAPABLE: Ready = msgspec.structs.replace(READY, capabilities=frozenset(("runtime_adapters",)))


@pytest.fixture
def sent() -> list[ToEngine]:
    return []


@pytest.fixture
def client(sent: list[ToEngine]) -> EngineClient:
    client = EngineClient()
    client.connected(sent.append, CAPABLE)
    return client


async def load(client: EngineClient, name: str, problem: str = "", **more: Any) -> None:
    """Load an adapter, and let the engine say how that went."""
    loading = asyncio.create_task(client.load_adapter(name, f"/{name}.gguf", **more))
    await asyncio.sleep(0)
    client.receive(AdapterAnswer(name, problem))
    await loading


def finish(client: EngineClient, request_id: str) -> None:
    client.receive(StepOutput([RequestOutput(request_id, [1], "x", "stop")], EngineStats()))


async def test_the_engine_says_whether_it_has_the_adapter(client, sent):
    await load(client, "sql", scale=0.5)

    assert sent == [LoadAdapter("sql", "/sql.gguf", 0.5)]
    with pytest.raises(InvalidRequest, match="not a GGUF file") as caught:
        await load(client, "poet", "/poet.gguf: this is not a GGUF file.")
    assert caught.value.param == "lora_path"


async def test_the_next_engine_gets_adapters_before_requests(client, sent):
    """Those that were loaded, and no others."""
    await load(client, "sql")
    with pytest.raises(InvalidRequest):
        await load(client, "poet", "no.")
    client.submit([a_request("a", lora="sql")])
    client.lost("restarting", "It died.")
    sent.clear()

    client.connected(sent.append, CAPABLE)

    assert sent[0] == LoadAdapter("sql", "/sql.gguf")
    assert [type(message) for message in sent[1:]] == [Submit]


async def test_running_requests_finish_before_their_adapter_is_freed(client, sent):
    await load(client, "sql")
    client.submit([a_request("a", lora="sql"), a_request("b", lora="sql")])
    client.submit([a_request("c")])
    client.unload_adapter("sql")
    for request_id in "ca":
        finish(client, request_id)
        assert UnloadAdapter("sql") not in sent
    with pytest.raises(InvalidRequest, match="still used") as caught:
        await client.load_adapter("sql", "/other.gguf")
    assert caught.value.param == "lora_name"

    finish(client, "b")

    assert sent[-1] == UnloadAdapter("sql")
    sent.clear()
    await load(client, "sql")
    assert sent == [LoadAdapter("sql", "/sql.gguf")]


async def test_an_adapter_that_leaves_goes_to_the_next_engine_while_it_is_needed(client, sent):
    await load(client, "sql")
    client.submit([a_request("a", lora="sql")])
    client.unload_adapter("sql")
    client.lost("restarting", "It died.")
    client.connected(sent.append, CAPABLE)
    assert [type(message) for message in sent[-2:]] == [LoadAdapter, Submit]

    finish(client, "a")

    assert sent[-1] == UnloadAdapter("sql")
    client.lost("restarting", "It died.")
    sent.clear()
    client.connected(sent.append, CAPABLE)
    assert sent == []


async def test_an_engine_that_dies_while_it_loads_an_adapter_is_told(client):
    loading = asyncio.create_task(client.load_adapter("sql", "/sql.gguf"))
    await asyncio.sleep(0)
    client.lost("restarting", "It died.")

    with pytest.raises(EngineUnavailable):
        await loading
    with pytest.raises(EngineUnavailable):
        await client.load_adapter("sql", "/sql.gguf")


async def test_an_adapter_that_nobody_waits_for_any_more_is_freed(client, sent):
    loading = asyncio.create_task(client.load_adapter("sql", "/sql.gguf"))
    await asyncio.sleep(0)
    loading.cancel()
    await asyncio.wait([loading])

    client.receive(AdapterAnswer("sql"))

    assert sent[-1] == UnloadAdapter("sql")


async def test_a_name_is_loaded_once_at_a_time(client):
    first = asyncio.create_task(client.load_adapter("sql", "/sql.gguf"))
    await asyncio.sleep(0)
    with pytest.raises(InvalidRequest, match="loaded at this moment"):
        await client.load_adapter("sql", "/other.gguf")
    client.receive(AdapterAnswer("sql"))
    await first


async def test_an_engine_that_cannot_is_not_asked(client, sent):
    client.connected(sent.append, READY)
    sent.clear()

    with pytest.raises(InvalidRequest, match="loads no adapters"):
        await client.load_adapter("sql", "/sql.gguf")
    assert sent == []
