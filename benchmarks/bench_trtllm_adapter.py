"""What a token costs between TensorRT-LLM and the engine's interface, in the engine process.

The package's double takes its place, its worker in a process of its own. The same requests go
through the engine and through the barest loop that could read them, in turn; the difference is
the engine's. `scripts/bench trtllm_adapter [--streams N ...] [--step-ms MS]`.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import report

from runtime.config.engine import EngineConfig
from runtime.engines import create_engine
from runtime.engines.base import Engine
from runtime.messages.request import Request, SamplingParams
from runtime.tokenizers.load import load_tokenizer

ROOT = Path(__file__).parents[1]
MAX_STREAMS = 256


class BareLoop:
    """Every response is awaited and nothing is done with it: what the double itself costs here."""

    def __init__(self, folder: Path) -> None:
        from tensorrt_llm import LLM

        self._llm = LLM(str(folder), max_batch_size=MAX_STREAMS, enable_iter_perf_stats=True)
        self._loop = asyncio.new_event_loop()

    def run(self, prompts: list[list[int]], num_tokens: int) -> int:
        """Returns the number of tokens that came."""
        return self._loop.run_until_complete(self._run(prompts, num_tokens))

    def close(self) -> None:
        self._llm.shutdown()
        self._loop.close()

    async def _run(self, prompts: list[list[int]], num_tokens: int) -> int:
        results = [self._submit(prompt, num_tokens) for prompt in prompts]
        await asyncio.gather(*(self._read(result) for result in results))
        return sum(len(result.outputs[0].token_ids) for result in results)

    def _submit(self, prompt: list[int], num_tokens: int) -> Any:
        from tensorrt_llm import SamplingParams as PackageParams

        params = PackageParams(
            max_tokens=num_tokens, temperature=0.0, ignore_eos=True, detokenize=False
        )
        inputs = {"prompt_token_ids": prompt}
        return self._llm.generate_async(inputs, sampling_params=params, streaming=True)

    async def _read(self, result: Any) -> None:
        async for _ in result:
            pass


def run_engine(engine: Engine, prompts: list[list[int]], num_tokens: int) -> tuple[int, int]:
    """Returns how many tokens came, in how many steps that had any."""
    sampling = SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
    for number, prompt in enumerate(prompts):
        engine.add(Request(request_id=str(number), prompt_token_ids=prompt, sampling=sampling))
    tokens = steps = 0
    while engine.num_running:
        outputs = engine.step()
        tokens += sum(len(output.token_ids) for output in outputs)
        steps += bool(outputs)
    return tokens, steps


def measure(engine: Engine, bare: BareLoop, num_streams: int, arguments: Any) -> dict[str, float]:
    ours, floor, widths = [], [], []
    expected = num_streams * arguments.tokens
    for number in range(-1, arguments.rounds):  # round -1 warms up
        prompts = [[number & 255, stream] for stream in range(num_streams)]
        started = time.process_time()
        assert bare.run(prompts, arguments.tokens) == expected
        middle = time.process_time()
        tokens, steps = run_engine(engine, prompts, arguments.tokens)
        ended = time.process_time()
        assert tokens == expected
        if number >= 0:
            floor.append((middle - started) / expected * 1e6)
            ours.append((ended - middle) / expected * 1e6)
            widths.append(tokens / steps)
    differences = [whole - part for whole, part in zip(ours, floor, strict=True)]
    return {
        "streams": num_streams,
        "double_us_per_token": statistics.median(floor),
        "double_and_engine_us_per_token": statistics.median(ours),
        "engine_us_per_token": statistics.median(differences),
        "tokens_per_step": statistics.median(widths),
    }


def start(folder: Path, step_ms: float) -> tuple[Engine, BareLoop]:
    """The engine and the loop beside it, on doubles of their own."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests/kit/doubles")]
    os.environ["TENSORRT_LLM_DOUBLE_WORKER"] = "process"
    from tests.kit.models.tensorrt_model import write_tensorrt_model

    write_tensorrt_model(folder, script=list(range(97, 123)), step_ms=step_ms)
    config = EngineConfig(name="tensorrt_llm", max_num_seqs=MAX_STREAMS)
    return create_engine(config, str(folder), load_tokenizer(folder)), BareLoop(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--tokens", type=int, default=200, help="of each stream")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step-ms", type=float, default=10.0, help="pace of the double")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engine, bare = start(Path(folder), arguments.step_ms)
        try:
            rows = [measure(engine, bare, count, arguments) for count in arguments.streams]
        finally:
            engine.close()
            bare.close()
    report("CPU in the engine process, median over the rounds", rows, arguments.json)


if __name__ == "__main__":
    main()
