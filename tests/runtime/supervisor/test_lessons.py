"""What is kept of an engine that died of a setting, and when it is used."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from structlog.testing import capture_logs

from runtime.client.engine_client import EngineClient
from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppConfig
from runtime.config.worker import CAUTION
from runtime.supervisor import engine_process
from runtime.supervisor.engine_output import EngineOutput
from runtime.supervisor.lessons import MAX_LESSONS, Lessons, Situation, situation_of
from runtime.supervisor.supervisor import Supervisor
from tests.kit.command_line import lockgate
from tests.kit.engines import needs_llama_library

HERE = Situation(machine="here", library="engine 1.0", model="m.gguf (5 bytes)")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "learned.json"


def test_lesson_is_found_where_it_holds(file: Path) -> None:
    Lessons(file).learn(HERE, setting=CAUTION, reason="It died.")
    found = Lessons(file).find(HERE)
    assert found is not None
    assert (found.setting, found.reason) == (CAUTION, "It died.")
    for field in ("machine", "library", "model"):
        assert Lessons(file).find(msgspec.structs.replace(HERE, **{field: "other"})) is None
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_newer_lesson_replaces_the_older(file: Path) -> None:
    lessons = Lessons(file)
    for reason in ("first", "second"):
        lessons.learn(HERE, setting=CAUTION, reason=reason)
    assert [each.reason for each in lessons.all()] == ["second"]


def test_file_does_not_grow_for_ever(file: Path) -> None:
    lessons = Lessons(file)
    for number in range(MAX_LESSONS + 3):
        situation = msgspec.structs.replace(HERE, model=str(number))
        lessons.learn(situation, setting=CAUTION, reason="It died.")
    assert len(lessons.all()) == MAX_LESSONS
    assert lessons.all()[-1].situation.model == str(MAX_LESSONS + 2)


def test_forgetting(file: Path) -> None:
    lessons = Lessons(file)
    assert lessons.forget() == 0
    lessons.learn(HERE, setting=CAUTION, reason="It died.")
    assert lessons.forget() == 1
    assert lessons.all() == ()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"lessons": [1]}', b'{"other": 1}'])
def test_damaged_file_is_a_line_in_the_log_and_no_more(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    with capture_logs() as logs:
        assert Lessons(file).find(HERE) is None
    assert [line["event"] for line in logs] == ["lessons_not_read"]
    Lessons(file).learn(HERE, setting=CAUTION, reason="It died.")
    assert Lessons(file).find(HERE) is not None


def test_cache_that_cannot_be_written_is_a_line_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with capture_logs() as logs:
        Lessons(tmp_path / "cache" / "learned.json").learn(HERE, setting=CAUTION, reason="")
    assert "lessons_not_written" in [line["event"] for line in logs]


def test_situation_names_library_and_model(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(b"12345")
    situation = situation_of("llama_cpp", str(model))
    assert situation.model == HERE.model
    assert "llama-cpp-python 0." in situation.library
    assert situation == situation_of("llama_cpp", str(model))


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 -- the process is watched from outside
            await anyio.sleep(0.01)


@asynccontextmanager
async def started(model: Path, file: Path, **llama_cpp: object) -> AsyncIterator[Supervisor]:
    settings = LlamaCppConfig(num_threads=1, **llama_cpp)  # type: ignore[arg-type]
    config = EngineConfig(max_model_len=256, llama_cpp=settings)
    supervisor = Supervisor(config, str(model), EngineClient(), lessons=Lessons(file))
    await supervisor.start()
    try:
        await until(lambda: supervisor.client.state != "starting")
        yield supervisor
    finally:
        await supervisor.stop()


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Engines die of the signal that stands in DEADLY while they may repack weights; one entry for
    each that has died."""
    started: list[str] = []
    really_start = engine_process._start

    def start(config: EngineConfig, output: EngineOutput | None) -> "subprocess.Popen[bytes]":
        if config.llama_cpp.use_extra_bufts is False:
            return really_start(config, output)
        started.append(os.environ.get("DEADLY", "SIGILL"))
        code = f"import os, signal; os.kill(os.getpid(), signal.{started[-1]})"
        return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)

    monkeypatch.setattr(engine_process, "_start", start)
    return started


posix = pytest.mark.posix("signals")


@posix
@pytest.mark.anyio
async def test_second_start_does_not_die_again(
    tiny_model_path: Path, file: Path, deaths: list[str]
) -> None:
    needs_llama_library()
    for _ in range(2):
        async with started(tiny_model_path, file) as supervisor:
            assert supervisor.client.state == "ready"
        assert len(deaths) == 1
    [lesson] = Lessons(file).all()
    assert lesson.setting == CAUTION
    assert "signal 4" in lesson.reason
    Lessons(file).forget()
    async with started(tiny_model_path, file):
        assert len(deaths) == 2


@posix
@pytest.mark.anyio
async def test_kill_from_outside_teaches_nothing(
    tiny_model_path: Path, file: Path, deaths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel kills when memory runs out."""
    needs_llama_library()
    monkeypatch.setenv("DEADLY", "SIGKILL")
    async with started(tiny_model_path, file) as supervisor:
        assert supervisor.client.state == "ready"
    assert deaths == ["SIGKILL"]
    assert Lessons(file).all() == ()


def test_doctor_shows_and_forgets(tmp_path: Path) -> None:
    file = tmp_path / "lockgate" / "learned.json"
    Lessons(file).learn(HERE, setting=CAUTION, reason="It died.")
    cache = {"XDG_CACHE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    shown = lockgate(tmp_path, "doctor", **cache).stdout
    assert "engine 1.0 loads m.gguf (5 bytes) with engine.llama_cpp.library" in shown
    [learned] = json.loads(lockgate(tmp_path, "doctor", "--json", **cache).stdout)["learned"]
    assert learned["reason"] == "It died."
    forgotten = lockgate(tmp_path, "doctor", "--forget", **cache)
    assert forgotten.stderr == "Forgotten: 1\n"
    assert "Learned" not in forgotten.stdout
    assert not file.exists()
