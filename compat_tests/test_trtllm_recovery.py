"""TensorRT-LLM in a real engine process, its worker in a process below that: deaths and hangs."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from runtime.client.engine_client import EngineClient
from runtime.config.engine import EngineConfig
from runtime.config.tensorrt_llm import TensorRTConfig
from runtime.messages.request import Request, SamplingParams
from runtime.messages.wire import EXIT_ENGINE_FATAL, Fatal, FromEngine
from runtime.processes import is_alive
from runtime.supervisor.engine_run import EngineRun
from runtime.supervisor.supervisor import Supervisor
from tests.kit.models.tensorrt_model import write_tensorrt_model
from tests.kit.tensorrt_double import RELEASES, STABLE

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="TensorRT-LLM runs on Linux alone"),
]

ROOT = Path(__file__).parents[1]
NUM_STREAMS = 16
NUM_TOKENS = 150
LETTERS = list(range(97, 123))


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Engine processes that start from now on find the double of a release."""

    def use(name: str) -> None:
        monkeypatch.setenv(
            "PYTHONPATH", os.pathsep.join([str(ROOT / "tests/kit/doubles"), str(ROOT)])
        )
        monkeypatch.setenv("TENSORRT_LLM_DOUBLE", name)
        monkeypatch.setenv("TENSORRT_LLM_DOUBLE_WORKER", "process")

    return use


def config(**tensorrt: Any) -> EngineConfig:
    return EngineConfig(
        name="tensorrt_llm",
        max_num_seqs=NUM_STREAMS,
        tensorrt_llm=TensorRTConfig(**tensorrt),
    )


def request(number: int, run: int = 0, max_tokens: int = NUM_TOKENS) -> Request:
    return Request(
        request_id=f"{run}-{number}",
        prompt_token_ids=[number, 1],
        sampling=SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True),
    )


def processes(name: str) -> list[psutil.Process]:
    """Living processes below this one with `name` on their command line."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if is_alive(process) and name in process.cmdline():
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def engines(others: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Engine processes but those of `others`: the server of the other tests has one too."""
    return [process for process in processes("runtime.worker") if process not in others]


def workers() -> list[psutil.Process]:
    return processes("tensorrt_llm.executor.worker_process")


async def until(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 -- processes are watched from outside
            await anyio.sleep(0.01)


@asynccontextmanager
async def running(engine: EngineConfig, folder: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(engine, str(folder), EngineClient())
    others = processes("runtime.worker")
    await supervisor.start()
    started: list[psutil.Process] = []
    try:
        await until(lambda: supervisor.client.state != "starting")
        assert supervisor.client.state == "ready", supervisor.client.state_reason
        yield supervisor
        started = workers()
    finally:
        await supervisor.stop()
        await until(lambda: not any(map(is_alive, started)))
        assert workers() == []
        assert engines(others) == []


async def answers(client: EngineClient, run: int, in_the_middle: Callable[[], None]) -> list[str]:
    """All streams to their ends; something happens when each has begun."""
    streams = [client.submit([request(number, run)]) for number in range(NUM_STREAMS)]
    texts = ["".join(output.text for output in await anext(stream)) for stream in streams]
    in_the_middle()
    for number, stream in enumerate(streams):
        async for outputs in stream:
            texts[number] += "".join(output.text for output in outputs)
    return texts


@pytest.mark.parametrize("name", RELEASES)
async def test_streams_go_on_byte_for_byte_after_any_accident(
    release: Callable[[str], None], name: str, tmp_path: Path
) -> None:
    """The worker dies, and in some releases nobody is told; a CUDA error comes as an error of one
    request."""
    release(name)
    now = tmp_path / "now"
    fault = {"kind": "cuda_error", "when": str(now), "once": str(tmp_path / "done")}
    folder = write_tensorrt_model(tmp_path / "m", script=LETTERS, step_ms=3, faults=[fault])
    async with running(config(), folder) as supervisor:
        calm = await answers(supervisor.client, 0, lambda: None)
        [worker] = workers()
        after_death = await answers(supervisor.client, 1, worker.kill)
        assert supervisor.client.num_restarts == 1
        after_cuda_error = await answers(supervisor.client, 2, now.touch)
        assert supervisor.client.num_restarts == 2
        assert not is_alive(worker)

    assert len(set(calm)) == NUM_STREAMS
    assert {len(text) for text in calm} == {NUM_TOKENS}
    assert after_death == calm
    assert after_cuda_error == calm


@pytest.mark.parametrize("name", RELEASES)
async def test_a_hang_and_a_killed_engine_leave_nothing_behind(
    release: Callable[[str], None], name: str, tmp_path: Path
) -> None:
    release(name)
    now = tmp_path / "now"
    fault = {"kind": "hang", "when": str(now), "once": str(tmp_path / "done")}
    folder = write_tensorrt_model(tmp_path / "m", script=LETTERS, step_ms=3, faults=[fault])
    others = processes("runtime.worker")
    async with running(config(no_progress_timeout=1.5), folder) as supervisor:
        calm = await answers(supervisor.client, 0, lambda: None)
        [hanging] = workers()
        assert await answers(supervisor.client, 1, now.touch) == calm
        assert supervisor.client.num_restarts == 1
        assert not is_alive(hanging)

        [engine] = engines(others)
        [orphan] = workers()
        assert await answers(supervisor.client, 2, engine.kill) == calm
        await until(lambda: not is_alive(orphan))


async def test_a_broken_engine_says_why_and_leaves_with_a_status_of_its_own(
    release: Callable[[str], None], tmp_path: Path
) -> None:
    """Also while the package's shutdown would block for ever."""
    release(STABLE)
    fault = {"kind": "worker_dies", "after": 2}
    folder = write_tensorrt_model(tmp_path / "m", faults=[fault], shutdown_block_s=600)
    client = EngineClient()
    events: list[FromEngine] = []
    run = EngineRun(config(), str(folder), client, events.append)

    async def ask() -> None:
        await until(lambda: client.state == "ready")
        client.submit([request(0)])

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            reason = await run.to_the_end()

    assert "worker" in reason  # the package says it in two ways, whichever comes first
    assert run._returncode == EXIT_ENGINE_FATAL
    assert isinstance(events[-1], Fatal)


GATEWAY = """
import asyncio, sys
from runtime.config.engine import EngineConfig
from runtime.client.engine_client import EngineClient
from runtime.supervisor.supervisor import Supervisor
async def main():
    supervisor = Supervisor(EngineConfig(name="tensorrt_llm"), sys.argv[1], EngineClient())
    await supervisor.start()
    while supervisor.client.state == "starting":
        await asyncio.sleep(0.01)
    print(supervisor.client.state, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_killed_gateway_leaves_nothing_behind(
    release: Callable[[str], None], tmp_path: Path
) -> None:
    release(STABLE)
    folder = write_tensorrt_model(tmp_path / "m", script=LETTERS)
    with subprocess.Popen(  # noqa: ASYNC220 -- the gateway of this test is another process
        [sys.executable, "-c", GATEWAY, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    ) as gateway:
        assert gateway.stdout is not None
        assert any(line.strip() == "ready" for line in gateway.stdout)
        below = psutil.Process(gateway.pid).children(recursive=True)
        assert len(below) == 2, "the engine and its worker"

        gateway.send_signal(signal.SIGKILL)

    await until(lambda: not any(map(is_alive, below)))


def test_a_module_of_the_worker_can_be_imported_again_by_mpi() -> None:
    """MPI's processes run the main module under another name: nothing may happen then."""
    script = "import runpy; runpy.run_module('runtime.worker', run_name='__worker__')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=20,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
