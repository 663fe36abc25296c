"""Through the whole server, on each release's double: what is not the same on every engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.schema import ModelSettings, ServerSettings, Settings
from runtime.config.engine import EngineConfig
from runtime.config.tensorrt_llm import LoRAConfig, TensorRTConfig
from tests.kit.chat.answers import CHAT, HI, good, streamed_messages
from tests.kit.chat.tools import TOOLS, check_calls
from tests.kit.models.tensorrt_model import write_tensorrt_model
from tests.kit.serving import (
    MODEL,
    RunningServer,
    raw_request,
    running_server,
    tensorrt_settings,
    text_of_chunks,
    wait_for,
)
from tests.kit.tensorrt_double import LATE, RELEASES, STABLE, findable

SENTENCE = "Schöne Grüße, 狐狸! "
PERSON = {
    "type": "object",
    "properties": {"name": {"enum": ["Ann", "Bob"]}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=RELEASES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("model")
    settings = tensorrt_settings(
        folder, SENTENCE, server=ServerSettings(), engine={"max_model_len": 1000}
    )
    with findable(request.param), running_server(settings, model_path=str(folder)) as running:
        yield running


def answer(server: RunningServer, **body: Any) -> dict[str, Any]:
    return good(server.post(CHAT, messages=HI, **body))


@pytest.mark.parametrize("top", [None, 0, 3])
def test_logprobs(server: RunningServer, top: int | None):
    asked = {"logprobs": True} | ({} if top is None else {"top_logprobs": top})
    whole = answer(server, max_tokens=40, **asked)
    chunks = server.chunks(CHAT, messages=HI, max_tokens=40, **asked)

    tokens = whole["choices"][0]["logprobs"]["content"]
    text = whole["choices"][0]["message"]["content"]
    assert len(tokens) == whole["usage"]["completion_tokens"] == 40
    assert bytes(byte for token in tokens for byte in token["bytes"]).startswith(text.encode())
    assert all(token["logprob"] <= 0 for token in tokens)
    assert {len(token["top_logprobs"]) for token in tokens} <= set(range((top or 0) + 1))
    streamed = [
        token
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["logprobs"]
        for token in choice["logprobs"]["content"]
    ]
    assert streamed == tokens


def test_a_schema_is_enforced(server: RunningServer):
    schema = {"name": "person", "schema": PERSON}
    whole = answer(
        server, max_tokens=400, response_format={"type": "json_schema", "json_schema": schema}
    )

    (choice,) = whole["choices"]
    assert choice["finish_reason"] == "stop"
    person = json.loads(choice["message"]["content"])
    assert set(person) == {"name", "age"}
    assert person["name"] in ("Ann", "Bob")


def test_a_tool_is_called(server: RunningServer):
    """The same, whole and streamed."""
    asked = {"tools": TOOLS[:1], "tool_choice": "required", "max_tokens": 300}
    (choice,) = answer(server, **asked)["choices"]
    (streamed,) = streamed_messages(server.chunks(CHAT, messages=HI, **asked))

    assert choice["finish_reason"] == streamed["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    check_calls(streamed, "get_weather")
    assert streamed["tool_calls"][0]["arguments"] == call["function"]["arguments"]


def test_choices_are_as_many_as_asked_for(server: RunningServer):
    whole = answer(server, n=3, max_tokens=30, temperature=0)
    chunks = server.chunks(CHAT, messages=HI, n=3, max_tokens=30, temperature=0)

    texts = [choice["message"]["content"] for choice in whole["choices"]]
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert texts == [text_of_chunks(chunks, index) for index in range(3)]
    assert whole["usage"]["completion_tokens"] == 90


def test_a_client_that_leaves_frees_the_engine(server: RunningServer):
    before = server.metric("requests_aborted_total")
    with server.connect() as connection:
        connection.sendall(raw_request(CHAT, {"messages": HI, "max_tokens": 900, "stream": True}))
        while b"data: " not in connection.recv(4096):
            continue

    wait_for(lambda: server.health()["stats"]["num_running"] == 0)
    wait_for(lambda: server.metric("requests_aborted_total") == before + 1)
    assert answer(server, max_tokens=3)["usage"]["completion_tokens"] == 3


def test_a_bad_pattern_is_the_clients_mistake(server: RunningServer):
    response = server.post(CHAT, messages=HI, guided_regex="(")

    assert response.status_code == 400
    assert response.json()["error"]["param"] == "guided_regex"
    assert answer(server, max_tokens=3)["usage"]["completion_tokens"] == 3


def test_penalties_move_the_answer(server: RunningServer):
    """1.2 drops them by itself."""
    plain = answer(server, max_tokens=40, temperature=0)
    changed = answer(server, max_tokens=40, temperature=0, logit_bias={str(ord("S")): -100})

    assert "S" in plain["choices"][0]["message"]["content"]
    assert "S" not in changed["choices"][0]["message"]["content"]


def test_a_prompt_that_is_too_long(server: RunningServer):
    response = server.chat("x" * 1200)

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")


def adapter_settings(folder: Path) -> Settings:
    """Two adapters, and another name for one of them."""
    write_tensorrt_model(folder, script=list(b"abcdefghijklmnopqrstuvwxyz"), certain=True)
    adapters = {"sql": str(folder / "sql"), "acme/poet": str(folder / "poet")}
    lora = LoRAConfig(adapters=adapters, max_rank=8)
    return Settings(
        model=ModelSettings(
            served_name=MODEL, name_or_path=str(folder), aliases={"poet": "acme/poet"}
        ),
        engine=EngineConfig(name="tensorrt_llm", tensorrt_llm=TensorRTConfig(lora=lora)),
    )


@pytest.fixture(scope="module", params=[STABLE, LATE])
def adapter_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("model")
    settings = adapter_settings(folder)
    with findable(request.param), running_server(settings, model_path=str(folder)) as running:
        yield running


def said_by(server: RunningServer, model: str, **body: Any) -> dict[str, Any]:
    """The answer of a model by its name."""
    return answer(server, model=model, **{"max_tokens": 30, **body})


def text(whole: dict[str, Any]) -> str:
    content: str = whole["choices"][0]["message"]["content"]
    return content


def test_an_adapter_is_a_model_of_its_own(adapter_server: RunningServer):
    """It answers in its own way and its own name, whole and streamed, under an alias too."""
    texts = {name: text(said_by(adapter_server, name)) for name in (MODEL, "sql", "acme/poet")}

    assert len(set(texts.values())) == 3
    for name, own_name in (("sql", "sql"), ("acme/poet", "acme/poet"), ("poet", "acme/poet")):
        whole = said_by(adapter_server, name)
        chunks = adapter_server.chunks(CHAT, messages=HI, model=name, max_tokens=30)
        assert text(whole) == texts[own_name]
        assert whole["model"] == own_name
        assert {chunk["model"] for chunk in chunks} == {own_name}
        streamed = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert streamed == texts[own_name]
    completion = adapter_server.post("/v1/completions", prompt="hi", model="sql").json()
    assert completion["model"] == "sql"


def test_adapters_are_listed_with_their_lineage(adapter_server: RunningServer):
    listed = adapter_server.http.get("/v1/models").json()["data"]

    assert [(card["id"], card["root"], card["parent"]) for card in listed] == [
        (MODEL, MODEL, None),
        ("sql", MODEL, MODEL),
        ("acme/poet", MODEL, MODEL),
        ("poet", MODEL, MODEL),
    ]
    for card in listed:
        assert adapter_server.http.get(f"/v1/models/{card['id']}").json() == card


def test_an_unknown_adapter_is_an_unknown_model(adapter_server: RunningServer):
    response = adapter_server.chat(model="sqlite")

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "model_not_found")
    assert error["param"] == "model"
    assert "`sql`" in error["message"]


def test_prefixes_are_not_shared_between_adapters(adapter_server: RunningServer):
    """The double's cache does not know adapters: what keeps them apart is the salt."""
    messages = [{"role": "user", "content": "once upon a time " * 20}]

    def cached(model: str, **body: Any) -> int:
        whole = adapter_server.post(CHAT, messages=messages, model=model, max_tokens=2, **body)
        found: int = whole.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
        return found

    for body in ({}, {"cache_salt": "s"}):
        for model in (MODEL, "sql", "acme/poet"):
            assert cached(model, **body) == 0
        for model in (MODEL, "sql", "poet"):
            assert cached(model, **body) > 100


def test_adapters_have_no_effect_on_other_engines(tmp_path: Path):
    lora = LoRAConfig(adapters={"sql": str(tmp_path)})
    settings = Settings(
        model=ModelSettings(served_name=MODEL),
        engine=EngineConfig(name="scripted", tensorrt_llm=TensorRTConfig(lora=lora)),
    )
    with running_server(settings) as server:
        assert [card["id"] for card in server.http.get("/v1/models").json()["data"]] == [MODEL]
        assert server.chat(model="sql").status_code == 404
