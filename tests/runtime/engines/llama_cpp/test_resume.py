"""A killed llama.cpp engine: sampled and structured answers go on as if nothing had happened."""

import os
from pathlib import Path

import anyio
import msgspec
import pytest

from runtime.client.engine_client import EngineClient
from runtime.client.token_stream import TokenStream
from runtime.config.engine import EngineConfig
from runtime.messages.request import Request, SamplingParams
from runtime.messages.structured_output import StructuredOutput
from runtime.supervisor.supervisor import Supervisor
from tests.kit.engines import ONE_THREAD, needs_llama_library
from tests.kit.supervised import engine_processes

needs_llama_library()

pytestmark = pytest.mark.anyio

CONFIG = EngineConfig(
    max_num_seqs=4,
    num_kv_tokens=16_384,
    prefix_cache_disk_gb=0,
    # Its sums for a row do not depend on the rows beside it, as ik_llama.cpp's do.
    llama_cpp=msgspec.structs.replace(ONE_THREAD, library="llama.cpp"),
)
NUM_TOKENS = 1500
"""Long enough that an engine on a fast machine is far from its end when it is killed."""
CASES: dict[str, SamplingParams] = {
    "greedy": SamplingParams(max_tokens=NUM_TOKENS, temperature=0.0, ignore_eos=True),
    "sampled": SamplingParams(max_tokens=NUM_TOKENS, temperature=1.5, seed=7, ignore_eos=True),
    "top-p": SamplingParams(
        max_tokens=NUM_TOKENS, temperature=1.0, top_p=0.8, seed=8, ignore_eos=True
    ),
    "structured": SamplingParams(
        max_tokens=NUM_TOKENS,
        temperature=2.0,
        seed=9,
        structured_output=StructuredOutput(regex=f"[a-z]{{{NUM_TOKENS}}}"),
    ),
}


async def read(stream: TokenStream, *, first_only: bool = False) -> tuple[list[int], str]:
    token_ids, text = list[int](), ""
    async for outputs in stream:
        for output in outputs:
            token_ids, text = token_ids + output.token_ids, text + output.text
        if first_only:
            break
    return token_ids, text


def submit(supervisor: Supervisor, run: str) -> dict[str, TokenStream]:
    return {
        name: supervisor.client.submit(
            [Request(request_id=f"{run}-{name}", prompt_token_ids=[10, 20, 30], sampling=sampling)]
        )
        for name, sampling in CASES.items()
    }


async def test_every_kind_of_answer_goes_on_as_it_would_have(tiny_model_path: Path):
    supervisor = Supervisor(CONFIG, os.fspath(tiny_model_path), EngineClient())
    await supervisor.start()
    try:
        with anyio.fail_after(60):
            while supervisor.client.state != "ready":  # noqa: ASYNC110 -- a process is waited for
                await anyio.sleep(0.01)
            undisturbed = {k: await read(s) for k, s in submit(supervisor, "first").items()}
            [engine] = engine_processes()
            streams = submit(supervisor, "second")
            begun = {k: await read(s, first_only=True) for k, s in streams.items()}
            assert all(len(begun[k][0]) < len(undisturbed[k][0]) for k in CASES)
            engine.kill()
            resumed = {k: await read(s) for k, s in streams.items()}
        assert supervisor.client.num_restarts == 1
        for name in CASES:
            whole = tuple(a + b for a, b in zip(begun[name], resumed[name], strict=True))
            assert whole == undisturbed[name], name
    finally:
        await supervisor.stop()
