"""The embedded engine with its streams on 0, 1, 2 and 4 LoRA adapters, against one without any.

Same model, same prompts, greedy, alternating rounds in one run; reports the median of the CPU time,
and of its ratio to the engine that was started without adapters. Adapters are random, of all
weights of all layers. `scripts/bench adapters [--model PATH] [--library NAME]`.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench_engine import DEFAULT_MODEL, make_prompts
from report import report

from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppConfig, LlamaCppLoRAConfig
from runtime.engines.llama_cpp.engine import LlamaCppEngine
from runtime.llama_library.installed import installed_families
from runtime.messages.request import Request, SamplingParams
from runtime.models.gguf import GGUFFile, read_gguf
from runtime.models.store import ModelStore
from runtime.tokenizers.load import load_tokenizer
from tests.kit.models.tiny_adapter import write_adapter

PARTS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def write_random(file: GGUFFile, path: Path, seed: int, rank: int) -> None:
    endings = tuple(f"{part}.weight" for part in PARTS)
    weights = (each for each in file.tensors if each.name.endswith(endings))
    shapes = {each.name: (each.shape[1], each.shape[0]) for each in weights}
    architecture = file.text("general.architecture")
    write_adapter(path, shapes, seed=seed, rank=rank, strength=0.005, architecture=architecture)


def start(arguments: argparse.Namespace, adapters: dict[str, str]) -> LlamaCppEngine:
    config = EngineConfig(
        num_kv_tokens=4096,
        prefix_caching="off",
        llama_cpp=LlamaCppConfig(
            library=arguments.library,
            num_threads=arguments.threads,
            use_extra_bufts=False,
            lora=LlamaCppLoRAConfig(adapters=adapters),
        ),
    )
    return LlamaCppEngine(config, arguments.model, load_tokenizer(arguments.model))


def seconds_of(
    engine: LlamaCppEngine, names: Sequence[str], prompts: list[list[int]], num_tokens: int
) -> float:
    """Seconds of CPU time from the end of the prompts to the last token; the streams take the names
    in turn."""
    sampling = SamplingParams(max_tokens=10_000, temperature=0.0, ignore_eos=True)
    for number, prompt in enumerate(prompts):
        engine.add(
            Request(
                request_id=str(number),
                prompt_token_ids=prompt,
                sampling=sampling,
                lora=names[number % len(names)],
            )
        )
    counts = dict.fromkeys(map(str, range(len(prompts))), 0)
    while not all(counts.values()):
        for output in engine.step():
            counts[output.request_id] += 1
    started, target = (
        time.process_time(),
        {key: value + num_tokens for key, value in counts.items()},
    )
    while counts:
        for output in engine.step():
            if output.request_id in counts:
                counts[output.request_id] += 1
                if counts[output.request_id] == target[output.request_id]:
                    del counts[output.request_id]
                    engine.abort(output.request_id)
    return time.process_time() - started


def measure(arguments: argparse.Namespace) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        file = read_gguf(arguments.model)
        adapters = {
            str(number): f"{folder}/{number}.gguf" for number in range(max(arguments.adapters))
        }
        for name, path in adapters.items():
            write_random(file, Path(path), int(name), arguments.rank)
        plain, adapted = start(arguments, {}), start(arguments, adapters)
    rows = []
    for num_streams in arguments.streams:
        wanted = {
            number: list(adapters)[:number] or [""]
            for number in arguments.adapters
            if number <= num_streams
        }
        seconds: dict[int, list[float]] = {number: [] for number in wanted}
        base = []
        for seed in range(arguments.rounds):
            prompts = make_prompts(num_streams, seed)
            base.append(seconds_of(plain, [""], prompts, arguments.tokens))
            for number, names in wanted.items():
                seconds[number].append(seconds_of(adapted, names, prompts, arguments.tokens))
        rows += [
            {
                "streams": num_streams,
                "adapters": number,
                "cpu_ms_a_token": 1000 / arguments.tokens * statistics.median(each),
                "ratio": statistics.median(a / b for a, b in zip(each, base, strict=True)),
            }
            for number, each in seconds.items()
        ]
    for engine in (plain, adapted):
        engine.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME_OR_PATH")
    parser.add_argument("--library", default=installed_families()[0], help="llama.cpp, or ik's")
    parser.add_argument("--adapters", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.model = str(ModelStore().find(arguments.model).path)
    report("streams on LoRA adapters / an engine without", measure(arguments), arguments.json)


if __name__ == "__main__":
    main()
