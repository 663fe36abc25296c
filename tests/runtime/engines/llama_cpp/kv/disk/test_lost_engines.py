"""An engine that is killed, and the next one, with the folder that is used by default."""

import os
from pathlib import Path

import anyio
import pytest

from runtime.client.engine_client import EngineClient
from runtime.config.engine import EngineConfig
from runtime.supervisor.supervisor import Supervisor
from tests.kit.disk_tiers import block_files
from tests.kit.engines import ONE_THREAD, a_request, needs_llama_library
from tests.kit.supervised import engine_processes, until, until_next_engine

needs_llama_library()

pytestmark = pytest.mark.anyio

ATTEMPTS = 5
"""Engines that may find the disk of a busy machine slower than computing."""
PROMPT = [10 + 7 * number % 200 for number in range(300)]


async def num_cached(supervisor: Supervisor, request_id: str) -> int:
    request = a_request(request_id, prompt_token_ids=PROMPT, max_tokens=1)
    with anyio.fail_after(60):
        outputs = [
            output async for batch in supervisor.client.submit([request]) for output in batch
        ]
    return outputs[-1].num_cached_tokens


async def test_the_engine_after_one_that_was_killed_reads_back_what_that_had_computed(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path))
    config = EngineConfig(max_num_seqs=2, num_kv_tokens=1024, llama_cpp=ONE_THREAD)
    supervisor = Supervisor(config, os.fspath(tiny_model_path), EngineClient())
    await supervisor.start()
    try:
        await until(lambda: supervisor.client.state == "ready")
        assert await num_cached(supervisor, "first") == 0
        folder = tmp_path / "lockgate" / "prefixes"
        await until(lambda: len(block_files(folder)) == 4)
        for number in range(ATTEMPTS):
            [engine] = engine_processes()
            engine.kill()
            await until_next_engine(supervisor, engine)
            if (read_back := await num_cached(supervisor, f"next {number}")) == 256:
                break

        assert read_back == 256
        await until(lambda: supervisor.client.stats.usage.disk.num_bytes > 0)
    finally:
        await supervisor.stop()
