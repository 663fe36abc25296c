"""Accidents of TensorRT-LLM below a whole server, on each release's double: no client notices."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.settings.schema import ModelSettings, Settings
from runtime.config.engine import EngineConfig
from tests.kit.chat.answers import CHAT, HI, good
from tests.kit.models.tensorrt_model import write_tensorrt_model
from tests.kit.serving import MODEL, RunningServer, running_server, text_of_chunks, wait_for
from tests.kit.tensorrt_double import RELEASES, findable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.posix("TensorRT-LLM runs on Linux alone"),
]

NUM_TOKENS = 150
LONG = {
    "type": "object",
    "properties": {"text": {"enum": ["x" * NUM_TOKENS]}},
    "required": ["text"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "long", "schema": LONG}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": LONG}}
FAULTS = ("cuda_error", "loop_terminates", "worker_dies")

Kind = Callable[[RunningServer], Any]


def whole(server: RunningServer, **body: Any) -> Any:
    """The choices of an answer, with no ids of calls."""
    asked = {"messages": HI, "temperature": 0, "max_tokens": NUM_TOKENS, **body}
    choices = good(server.post(CHAT, **asked))["choices"]
    for call in choices[0]["message"].get("tool_calls") or ():
        del call["id"]
    return choices


def stream(server: RunningServer) -> Any:
    chunks = server.chunks(CHAT, messages=HI, temperature=0, max_tokens=NUM_TOKENS)
    return text_of_chunks(chunks)


KINDS: tuple[Kind, ...] = (
    stream,
    whole,
    lambda server: whole(server, n=2),
    lambda server: whole(server, logprobs=True, top_logprobs=2),
    lambda server: whole(server, response_format=FORMAT, max_tokens=400),
    lambda server: whole(server, tools=[TOOL], tool_choice="required", max_tokens=400),
)
NUM_REQUESTS = len(KINDS) + 1


def answers(server: RunningServer, in_the_middle: Callable[[], object]) -> list[Any]:
    """An answer of each kind; something happens when all have begun."""
    tokens_before = server.metric("generation_tokens_total")
    with ThreadPoolExecutor(len(KINDS)) as pool:
        asked = [pool.submit(kind, server) for kind in KINDS]
        wait_for(lambda: server.health()["stats"]["num_running"] == NUM_REQUESTS)
        wait_for(lambda: server.metric("generation_tokens_total") > tokens_before + NUM_REQUESTS)
        in_the_middle()
        return [each.result() for each in asked]


def processes() -> set[psutil.Process]:
    """All processes below this one."""
    return set(psutil.Process().children(recursive=True))


def process_of(name: str, others: set[psutil.Process]) -> psutil.Process:
    """The process with `name` on its command line that is none of the others."""
    [process] = [each for each in processes() - others if name in each.cmdline()]
    return process


@pytest.fixture
def others() -> set[psutil.Process]:
    """The processes of servers that other tests have left running for the next."""
    return processes()


@pytest.fixture(params=RELEASES)
def server(
    request: pytest.FixtureRequest,
    others: set[psutil.Process],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[RunningServer]:
    """Faults strike once each, when a file has the fault's name."""
    faults = [
        {"kind": kind, "when": str(tmp_path / kind), "once": str(tmp_path / f"{kind}.done")}
        for kind in FAULTS
    ]
    folder = write_tensorrt_model(
        tmp_path / "model", script=list(range(97, 123)), step_ms=8, faults=faults
    )
    settings = Settings(
        model=ModelSettings(served_name=MODEL, name_or_path=str(folder)),
        engine=EngineConfig(name="tensorrt_llm", max_model_len=1000, max_restarts=9),
    )
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE_WORKER", "process")
    with findable(request.param), running_server(settings, model_path=str(folder)) as running:
        yield running


def test_every_kind_of_answer_goes_on_after_any_accident(
    server: RunningServer, others: set[psutil.Process], tmp_path: Path
) -> None:
    calm = answers(server, lambda: None)
    accidents: list[Callable[[], object]] = [
        process_of("tensorrt_llm.executor.worker_process", others).kill,
        lambda: process_of("runtime.worker", others).kill(),
        *((tmp_path / kind).touch for kind in FAULTS),
    ]

    assert calm[0] == calm[1][0]["message"]["content"]
    for number, accident in enumerate(accidents, 1):
        assert answers(server, accident) == calm
        assert server.health()["progress"]["num_deaths"] == number
