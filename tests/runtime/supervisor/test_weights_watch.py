"""A supervisor whose model file changes under it."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import psutil
import pytest

from runtime.client.engine_client import EngineClient
from runtime.config.engine import EngineConfig
from runtime.models.integrity.guard import WeightsGuard
from runtime.processes import is_alive
from runtime.supervisor import supervisor as module
from runtime.supervisor.supervisor import Supervisor
from tests.kit.models.tiny_model import write_tiny_model

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.posix("Windows protects mapped files itself"),
]


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 -- the process is watched from outside
            await anyio.sleep(0.01)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "served.gguf")


@pytest.fixture
async def supervisor(file: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisor]:
    """It serves the scripted engine with that file's tokenizer."""
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.02)
    config = EngineConfig(name="scripted", failed_retry_interval=0.1)
    supervisor = Supervisor(config, str(file), EngineClient(), guard=WeightsGuard(file))
    await supervisor.start()
    await until(lambda: supervisor.client.state == "ready")
    yield supervisor
    await supervisor.stop()


def engine_of(supervisor: Supervisor) -> psutil.Process:
    assert supervisor.client.info is not None
    return psutil.Process(supervisor.client.info.pid)


def overwritten(file: Path, content: bytes | None = None) -> bytes:
    """What was in the file before it was written in place: with zeros, if not with this."""
    before = file.read_bytes()
    file.write_bytes(bytes(len(before)) if content is None else content)
    return before


async def test_overwritten_file_is_served_no_longer_until_it_is_back(
    supervisor: Supervisor, file: Path
) -> None:
    client, engine = supervisor.client, engine_of(supervisor)
    content = overwritten(file)
    await until(lambda: client.state == "failed")
    assert str(file) in client.state_reason
    assert not is_alive(engine)
    overwritten(file, content)
    await until(lambda: client.state == "ready")


async def test_restart_takes_the_new_content(supervisor: Supervisor, file: Path) -> None:
    client = supervisor.client
    content = bytearray(overwritten(file))
    content[-1] ^= 1
    overwritten(file, content)
    await until(lambda: client.state == "failed")
    supervisor.restart()
    await until(lambda: client.state == "ready")


async def test_renaming_over_it_disturbs_nobody(supervisor: Supervisor, file: Path) -> None:
    engine = engine_of(supervisor)
    new = write_tiny_model(file.with_name("new.gguf"))
    os.replace(new, file)
    await anyio.sleep(0.2)  # ten looks
    assert supervisor.client.state == "ready"
    assert engine_of(supervisor) == engine
    assert is_alive(engine)
