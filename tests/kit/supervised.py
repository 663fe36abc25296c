"""A supervisor with a real engine process behind a real socket, on the scripted engine."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import psutil

from runtime.client.engine_client import EngineClient
from runtime.client.token_stream import TokenStream
from runtime.config.engine import EngineConfig
from runtime.config.scripted import ScriptedConfig
from runtime.processes import is_alive
from runtime.supervisor.supervisor import Supervisor
from tests.kit.engines import a_request

TEXT = "abcdefghijklmnopqrstuvwxyz"

request = partial(a_request, prompt_token_ids=[0], max_tokens=26)


def config(**settings: object) -> EngineConfig:
    scripted = ScriptedConfig(text=TEXT, **settings.pop("scripted", {}))  # type: ignore[arg-type]
    return EngineConfig(name="scripted", scripted=scripted, **settings)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 -- the process is watched from outside
            await anyio.sleep(0.01)


async def until_next_engine(supervisor: Supervisor, process: psutil.Process) -> None:
    """Wait for an engine in another process than this one: a state of "ready" may still be that
    of the engine which has just ended."""
    client = supervisor.client
    await until(
        lambda: (
            client.state == "ready" and client.info is not None and client.info.pid != process.pid
        )
    )


@asynccontextmanager
async def running(**settings: object) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(config(**settings), "", EngineClient())
    await supervisor.start()
    try:
        await until(lambda: supervisor.client.state != "starting")
        yield supervisor
    finally:
        await supervisor.stop()
        assert engine_processes() == []


def engine_processes() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if is_alive(child) and "runtime.worker" in child.cmdline()
    ]


async def text_of(stream: TokenStream) -> str:
    text = ""
    with anyio.fail_after(60):
        async for outputs in stream:
            text += "".join(output.text for output in outputs)
    return text
