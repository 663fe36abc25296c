"""`lockgate-convert run SOURCE TARGET`: writes the checkpoint."""

import argparse
import itertools
import time
from pathlib import Path

from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from convert.calibration.text import read_text
from convert.commands.options import model_path
from convert.mapping.open_model import open_any
from convert.pipeline.convert import convert
from convert.pipeline.manifest import Manifest
from convert.pipeline.modelopt import calibrate_on
from convert.pipeline.plan import Options
from convert.source.folder import FolderSource
from convert.source.gguf import GGUFSource
from convert.target.recipe import (
    ALGORITHMS,
    KEPT,
    PRECISIONS,
    Dtype,
    Recipe,
    load_recipe,
    make_recipe,
)
from runtime.errors import SetupError
from runtime.terminal.console import Console
from runtime.terminal.numbers import whole_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate-convert run`."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a GGUF file, a folder, or a name of the catalogue or of the hub",
    )
    parser.add_argument("target", metavar="TARGET", help="the folder to make; it must not exist")
    parser.add_argument("--precision", choices=PRECISIONS, help="of the linear layers")
    parser.add_argument("--recipe", metavar="FILE", help="a TOML file, instead of the options")
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float16"), help="of what is not quantized (bfloat16)"
    )
    parser.add_argument(
        "--requantize", action="store_true", help="round the values of AWQ or GPTQ again for int4"
    )
    parser.add_argument("--kv-cache", choices=("fp8",), help="type of the KV cache")
    parser.add_argument(
        "--release", choices=("1.2", "1.3"), default="1.2", help="of TensorRT-LLM (1.2)"
    )
    parser.add_argument(
        "--tokenizer", metavar="FOLDER", help="copy the original's tokenizer from here"
    )
    parser.add_argument(
        "--calibrate-on", choices=("gpu", "cpu"), help="measure scales with nvidia-modelopt"
    )
    parser.add_argument(
        "--calibration", metavar="FILE", help="plain text to calibrate with, not the built-in one"
    )
    parser.add_argument(
        "--threads", type=whole_number(0, 1024), default=0, help="0: one per core, at most 8"
    )


def run(arguments: argparse.Namespace) -> int:
    """Converts, with a progress bar on stderr. Prints the target."""
    calibration = _calibration_text(arguments)
    options = Options(
        release=arguments.release,
        tokenizer=arguments.tokenizer or "",
        calibration=arguments.calibration or "",
        requantize=arguments.requantize,
        num_threads=arguments.threads,
    )
    path, target = model_path(arguments.source), Path(arguments.target)
    _check(arguments)
    source = open_any(path)
    recipe = _recipe(arguments, source)
    start = time.perf_counter()
    with _progress() as progress:
        task = progress.add_task("converting", total=source.num_bytes, tensors=0)
        tensors = itertools.count(1)

        def advance(num_bytes: int) -> None:
            progress.update(task, advance=num_bytes, tensors=next(tensors))

        def calibrating(done: int, count: int) -> None:
            progress.update(task, description=f"calibrated {done} of {count} layers")

        manifest = None
        if calibration:
            kv_cache, precision = recipe.kv_cache, recipe.precision
            calibrate_on(
                arguments.calibrate_on,
                path,
                target,
                precision,
                calibration,
                options,
                advance,
                kv_cache=kv_cache,
            )
        else:
            manifest = convert(path, target, recipe, options, advance, calibrating)
    seconds = time.perf_counter() - start
    rate = source.num_bytes / 1e9 / seconds
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for line in _report(source, manifest):
        console.print(line)
    console.print(f"{source.num_bytes / 1e6:,.0f} MB in {seconds:.1f} s ({rate:.2f} GB/s)")
    print(target)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.recipe:
        if arguments.precision or arguments.dtype or arguments.kv_cache:
            raise SetupError("--recipe goes without --precision, --dtype and --kv-cache.")
    elif not arguments.precision:
        raise SetupError(f"--precision is missing: one of {', '.join(PRECISIONS)}; or --recipe.")


def _recipe(arguments: argparse.Namespace, source: GGUFSource | FolderSource) -> Recipe:
    if arguments.recipe:
        return load_recipe(arguments.recipe)
    dtype = arguments.dtype or _own_dtype(arguments, source)
    return make_recipe(arguments.precision, dtype=dtype, kv_cache=arguments.kv_cache or "")


def _own_dtype(arguments: argparse.Namespace, source: GGUFSource | FolderSource) -> Dtype | None:
    """float16 if int4 keeps the levels of a source whose scales are float16, which bfloat16 would
    round; otherwise None.

    Not for Gemma, whose activations exceed the range of float16.
    """
    if not isinstance(source, FolderSource) or not source.packed or arguments.requantize:
        return None
    keeps = ALGORITHMS.get(arguments.precision) == ALGORITHMS[KEPT]
    halves = all(info.scales.type == "F16" for info in source.packed.values())
    gemma = source.architecture.startswith("Gemma")
    return "float16" if keeps and halves and not gemma else None


def _report(source: GGUFSource | FolderSource, manifest: Manifest | None) -> list[str]:
    """One line for each packed weight of the source: whether its levels were kept or decoded, and
    the relative error."""
    if not isinstance(source, FolderSource) or manifest is None:
        return []
    lines = []
    for record in manifest.tensors:
        if source.packed_info(record.name) is not None:
            became = "levels kept" if record.precision == KEPT else f"decoded, {record.precision}"
            error = f"relative error {record.difference.error:.1e}"
            lines.append(f"{record.name}: {source.tensor(record.name).type}, {became}, {error}")
    return lines


def _calibration_text(arguments: argparse.Namespace) -> str:
    """The calibration text for `--calibrate-on`; empty without that option."""
    if not arguments.calibrate_on:
        return ""
    if arguments.recipe:
        raise SetupError("--calibrate-on goes without --recipe.")
    return read_text(arguments.calibration or "")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[tensors]} tensors"),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
