"""The converter against transformers' own GGUF loader: same file, same machine, one run.

Both write bf16 safetensors, configuration and tokenizer into a folder, each in a process of its
own, in alternating rounds; reports the medians of time and peak memory. transformers needs torch;
without it only the converter is measured.

`scripts/bench convert [--model NAME_OR_PATH] [--rounds N]`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from runtime.models.store import ModelStore

DEFAULT_MODEL = "qwen2.5-coder-0.5b-instruct"
PARAMETERS_ON_PAPER = {"8B": 8.0e9, "70B": 70.0e9}

CONVERTER = """
import sys
from convert.__main__ import main
main(["run", sys.argv[1], sys.argv[2], "--precision", "bf16"])
"""
# save_pretrained refuses models that came from a GGUF file
TRANSFORMERS = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
source, target = Path(sys.argv[1]), Path(sys.argv[2])
target.mkdir()
where = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
save_file({k: v.contiguous() for k, v in model.state_dict().items()}, target / "model.safetensors")
model.config.save_pretrained(target)
AutoTokenizer.from_pretrained(**where).save_pretrained(target)
"""
# The child's own peak, imports included, in kibibytes (bytes on macOS).
REPORT = """
import resource, sys
unit = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""


def measure(script: str, model: Path, target: Path) -> tuple[float, float]:
    """Seconds and peak bytes of one conversion in a new process."""
    shutil.rmtree(target, ignore_errors=True)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script + REPORT, str(model), str(target)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return time.perf_counter() - started, float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/convert.json"))
    arguments = parser.parse_args()
    model = ModelStore().find(arguments.model).path
    scripts = {"lockgate-convert": CONVERTER}
    if find_spec("torch") is not None:
        scripts["transformers"] = TRANSFORMERS
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in scripts}
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        for _ in range(arguments.rounds):
            for name, script in scripts.items():
                results[name].append(measure(script, model, Path(folder) / "target"))
        num_values = (Path(folder) / "target" / "model.safetensors").stat().st_size / 2
    report(results, num_values)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"model": model.name, "rounds": results}, indent=1))


def report(results: dict[str, list[tuple[float, float]]], num_values: float) -> None:
    """Print the medians, their ratios, and what they mean for larger models."""
    console = Console()
    table = Table("", "seconds", "peak MB", "million weights/s")
    medians = {}
    for name, rounds in results.items():
        seconds, peak = (statistics.median(column) for column in zip(*rounds, strict=True))
        medians[name] = seconds, peak
        table.add_row(
            name, f"{seconds:.2f}", f"{peak / 1e6:.0f}", f"{num_values / seconds / 1e6:.0f}"
        )
    console.print(table)
    ours = medians["lockgate-convert"]
    if "transformers" in medians:
        theirs = medians["transformers"]
        console.print(f"{theirs[0] / ours[0]:.1f} times as fast (target 5)")
        console.print(f"{ours[1] / theirs[1]:.2f} of the memory (target 0.25)")
    else:
        console.print("torch is not installed: nothing to compare with")
    for name, parameters in PARAMETERS_ON_PAPER.items():
        console.print(f"on paper, {name}: {parameters / num_values * ours[0]:.0f} s")


if __name__ == "__main__":
    main()
