"""Damaged GGUF files: how they are made from whole ones, and what is done with each.

An input is a model of one or two files, one of which is damaged in one to three ways. It is a
function of the run's seed and its number alone, so that one finding can be made again.
"""

import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import msgspec
import numpy as np
from msgspec import Struct

from convert.checks.inspection import inspect
from convert.checks.offers import make_offers
from convert.checks.verify import verify
from convert.pipeline.convert import convert
from convert.pipeline.plan import Options, make_plan
from convert.source.blocks import read_blocks
from convert.target.recipe import make_recipe
from convert.tokenizer import build_tokenizer, end_token_ids
from runtime.errors import LockgateError
from runtime.hardware.gpu_table import find_gpu
from runtime.models.gguf import read_gguf
from runtime.planning.gguf_shape import shape_of_gguf
from runtime.planning.memory_account import Wishes
from tests.kit.models.tiny_checkpoints import (
    byte_level_vocabulary,
    random_weights,
    sentencepiece_vocabulary,
    write_gguf,
)

_SENTENCEPIECE = ("llama", "gemma2", "phi3")
_FACTORS = {
    "llama": ("rope_freqs.weight",),
    "phi3": ("rope_factors_long.weight", "rope_factors_short.weight"),
}
_EXTREMES = (
    *(0, 1, 2, 3, 8, 9, 10, 12, 31, 32, 255, 1 << 15, 1 << 16, 1 << 20, 1 << 24, 1 << 26, 1 << 28),
    *((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 56, 1 << 60, 1 << 61, 1 << 62),
    *((1 << 63) - 1, 1 << 63, (1 << 64) - 32, (1 << 64) - 1),
)
# how many times an input is damaged
_TIMES = (1, 1, 1, 2, 3)
_LONGEST_SPLICE = 400

Field = list[tuple[int, int]]
Random = np.random.Generator


class SeedFile(Struct, frozen=True):
    """A whole file. `fields` has the place and the length, in bytes, of every number and string of
    each entry of the header."""

    name: str
    data: bytes
    fields: list[Field]

    @property
    def header_size(self) -> int:
        return max(start + size for field in self.fields for start, size in field)


class Seed(Struct, frozen=True):
    """A whole model: one file, or the parts of a split one."""

    name: str
    files: tuple[SeedFile, ...]


class Finding(Struct, frozen=True):
    """An input on which `stage` raised what it must not. `number` makes it again."""

    number: int
    seed_model: str
    stage: str
    error: str


class Report(Struct, kw_only=True):
    """What a run has seen. Times are in seconds, `slowest` and its input's number among them.

    `outcomes` counts, for each stage, inputs that passed and those that were refused.
    """

    num_inputs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    slowest_number: int = 0
    peak_bytes: int = 0
    outcomes: Counter[str]
    findings: list[Finding]


class TooSlow(BaseException):
    """An input took longer than its limit. Nothing that is fuzzed may catch it."""


def make_seeds(folder: Path) -> tuple[Seed, ...]:
    """Tiny models of several architectures, kinds of vocabulary and types, one of them split."""
    kinds = gguf.GGMLQuantizationType
    return (
        _make_seed(folder, "llama", kinds.Q8_0),
        _make_seed(folder, "qwen3", kinds.Q4_0),
        _make_seed(folder, "qwen3moe", kinds.Q5_1),
        _make_seed(folder, "gemma2", kinds.BF16),
        _make_seed(folder, "phi3", kinds.F16),
        _make_seed(folder, "qwen2", kinds.Q8_0, split_max_tensors=16),
    )


def damaged(seed: Seed, seeds: tuple[Seed, ...], random: Random) -> list[tuple[str, bytes]]:
    """Names and contents of the seed's files, one of them damaged."""
    victim = int(random.integers(len(seed.files)))
    files = []
    for index, file in enumerate(seed.files):
        data = bytearray(file.data)
        if index == victim:
            for _ in range(_TIMES[int(random.integers(len(_TIMES)))]):
                damage = _DAMAGES[int(random.integers(len(_DAMAGES)))]
                damage(data, file, seeds, random)
        files.append((file.name, bytes(data)))
    return files


def fuzz(
    seeds: tuple[Seed, ...],
    folder: Path,
    numbers: range,
    *,
    run_seed: int,
    seconds_each: float,
    convert_every: int = 20,
    keep: Path | None = None,
) -> Report:
    """Put each input through everything that reads GGUF files for the converter.

    Every `convert_every`-th is converted, too, as far as it comes. Inputs with findings are kept in
    `keep`. An error of this project is what should come of damage; anything else, and more than
    `seconds_each` seconds, is a finding. Main thread of a POSIX process only, for the alarm.
    """
    report = Report(outcomes=Counter(), findings=[])
    begin = time.perf_counter()
    for number in numbers:
        random = np.random.default_rng((run_seed, number))
        seed = seeds[int(random.integers(len(seeds)))]
        place = folder / "input"
        path = _write(place, damaged(seed, seeds, random))
        stages = _stages(path, folder / "target", number % convert_every == 0)
        _run(report, stages, number, seed.name, seconds_each)
        if keep is not None and report.findings and report.findings[-1].number == number:
            shutil.copytree(place, keep / str(number), dirs_exist_ok=True)
        report.num_inputs += 1
    report.seconds = time.perf_counter() - begin
    report.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return report


def _run(
    report: Report, stages: dict[str, Callable[[], None]], number: int, model: str, limit: float
) -> None:
    start = time.perf_counter()
    stage = ""
    try:
        with _alarm(limit):
            for stage, run in stages.items():
                try:
                    run()
                    report.outcomes[f"{stage}: passed"] += 1
                except LockgateError:
                    report.outcomes[f"{stage}: refused"] += 1
                except Exception as error:
                    text = f"{type(error).__name__}: {error}"
                    report.findings.append(Finding(number, model, stage, text))
    except TooSlow:
        report.findings.append(Finding(number, model, stage, f"more than {limit} s"))
    spent = time.perf_counter() - start
    if spent > report.slowest:
        report.slowest, report.slowest_number = spent, number


def _stages(path: Path, target: Path, whole: bool) -> dict[str, Callable[[], None]]:
    stages = {
        "inspect": lambda: _inspect(path),
        "tokenizer": lambda: _rebuild_tokenizer(path),
        "shape": lambda: _read_shape(path),
        "weights": lambda: _read_weights(path),
    }
    if whole:
        stages["plan"] = lambda: _plan(path)
        stages["convert"] = lambda: _convert(path, target)
    return stages


def _inspect(path: Path) -> None:
    inspect(path)


def _rebuild_tokenizer(path: Path) -> None:
    header = read_gguf(path)
    build_tokenizer(header)
    end_token_ids(header)


def _read_shape(path: Path) -> None:
    shape_of_gguf(read_gguf(path), "model")


def _plan(path: Path) -> None:
    make_offers(path, find_gpu("rtx-4070"), Wishes(context=64), Options())


def _read_weights(path: Path) -> None:
    plan = make_plan(path, make_recipe("bf16"), Options())
    for weight in plan.weights:
        for _ in read_blocks(plan.source, weight):
            pass


def _convert(path: Path, target: Path) -> None:
    partial = target.with_name(f"{target.name}.partial")
    # int8 and 1.3: what all of the seeds can become
    options = Options(num_threads=1, release="1.3")
    try:
        convert(path, target, make_recipe("int8"), options, lambda num_bytes: None)
        _check_folder(target)
    finally:
        for folder in (target, partial):
            shutil.rmtree(folder, ignore_errors=True)


def _check_folder(target: Path) -> None:
    """What was written is whole, and all of its JSON is, without NaN and Infinity."""
    for _ in verify(target):
        pass
    for path in target.glob("*.json"):
        msgspec.json.decode(path.read_bytes())


def _write(folder: Path, files: list[tuple[str, bytes]]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files:
        (folder / name).write_bytes(data)
    return folder / files[0][0]


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _make_seed(
    folder: Path,
    architecture: str,
    kind: gguf.GGMLQuantizationType,
    *,
    split_max_tensors: int = 0,
) -> Seed:
    sentencepiece = architecture in _SENTENCEPIECE
    vocabulary = sentencepiece_vocabulary() if sentencepiece else byte_level_vocabulary(folder)
    weights = random_weights(architecture, len(vocabulary["tokenizer.ggml.tokens"]))
    path = folder / f"{architecture}.gguf"
    write_gguf(
        path,
        architecture,
        weights,
        vocabulary=vocabulary | {"general.sampling.temp": 0.7},
        kind=kind,
        split_max_tensors=split_max_tensors,
        extra={name: np.ones(16, np.float32) for name in _FACTORS.get(architecture, ())},
    )
    written = sorted(folder.glob(f"{architecture}*.gguf"))
    return Seed(architecture, tuple(_read_seed(file) for file in written))


def _read_seed(path: Path) -> SeedFile:
    """With the places of all fields, as the `gguf` package finds them."""
    reader = gguf.GGUFReader(path)
    begin = reader.data.__array_interface__["data"][0]
    entries = [*reader.fields.values(), *(tensor.field for tensor in reader.tensors)]
    fields = [
        [(part.__array_interface__["data"][0] - begin, part.nbytes) for part in entry.parts]
        for entry in entries
    ]
    return SeedFile(path.name, path.read_bytes(), [field for field in fields if field])


def _flip_bits(data: bytearray, file: SeedFile, seeds: tuple[Seed, ...], random: Random) -> None:
    for _ in range(int(random.integers(1, 9))):
        if data:
            data[_place(data, file, random)] ^= 1 << int(random.integers(8))


def _cut_off(data: bytearray, file: SeedFile, seeds: tuple[Seed, ...], random: Random) -> None:
    del data[_place(data, file, random) :]


def _set_number(data: bytearray, file: SeedFile, seeds: tuple[Seed, ...], random: Random) -> None:
    """A number of the header becomes an extreme one, a neighbour, or one about the file's size."""
    start, size = _number(file, random)
    old = int.from_bytes(data[start : start + size], "little")
    choices = (*_EXTREMES, old + 1, old - 1, old * 2, len(data), len(data) - start)
    new = int(choices[int(random.integers(len(choices)))])
    data[start : start + size] = (new % (1 << 8 * size)).to_bytes(size, "little")


def _set_value(data: bytearray, file: SeedFile, seeds: tuple[Seed, ...], random: Random) -> None:
    """What an entry ends with, mostly its value, changes in place: the header stays readable."""
    field = file.fields[int(random.integers(len(file.fields)))]
    start, size = field[-1 - int(random.integers(min(6, len(field))))]
    if random.integers(2):
        new = int(_EXTREMES[int(random.integers(len(_EXTREMES)))])
        data[start : start + size] = (new % (1 << 8 * size)).to_bytes(size, "little")
    else:
        data[start : start + size] = random.bytes(size)


def _spoil_weights(
    data: bytearray, file: SeedFile, seeds: tuple[Seed, ...], random: Random
) -> None:
    """Random bytes over weights: scales that are infinite or no numbers."""
    start = int(random.integers(file.header_size, len(file.data)))
    piece = random.bytes(int(random.integers(1, 64)))
    data[start : start + len(piece)] = piece[: max(0, len(data) - start)]


def _copy_number(data: bytearray, file: SeedFile, seeds: tuple[Seed, ...], random: Random) -> None:
    """One number of the header becomes another one of it."""
    start, size = _number(file, random)
    other, _ = _number(file, random)
    data[start : start + size] = data[other : other + size].ljust(size, b"\0")


def _splice(data: bytearray, file: SeedFile, seeds: tuple[Seed, ...], random: Random) -> None:
    """A piece of this or another model is put over, or in between, or a piece is taken out."""
    other = seeds[int(random.integers(len(seeds)))].files[0]
    taken = int(random.integers(other.header_size))
    piece = other.data[taken : taken + int(random.integers(1, _LONGEST_SPLICE))]
    place = _place(data, file, random)
    replaced = (0, len(piece), int(random.integers(_LONGEST_SPLICE)))[int(random.integers(3))]
    data[place : place + replaced] = piece if random.integers(3) else b""


def _overwrite_text(
    data: bytearray, file: SeedFile, seeds: tuple[Seed, ...], random: Random
) -> None:
    """Bytes of a random kind over a piece of the header: zeros, blanks, no UTF-8, anything."""
    place, length = _place(data, file, random), int(random.integers(1, 40))
    anything = random.bytes(length)
    piece = (b"\0" * length, b" " * length, b"\xff" * length, anything)[int(random.integers(4))]
    data[place : place + length] = piece[: max(0, len(data) - place)]


def _place(data: bytearray, file: SeedFile, random: Random) -> int:
    """A place in the header, now and then one behind it."""
    end = len(file.data) if random.integers(10) == 0 else file.header_size
    return int(random.integers(max(1, min(end, len(data)))))


def _number(file: SeedFile, random: Random) -> tuple[int, int]:
    """Any number of any entry: entries alike, so that long lists do not get everything."""
    field = file.fields[int(random.integers(len(file.fields)))]
    numbers = [(start, size) for start, size in field[:40] if size in (1, 2, 4, 8)]
    return numbers[int(random.integers(len(numbers)))] if numbers else field[0]


_DAMAGES = (
    *(_flip_bits, _cut_off, _splice, _overwrite_text, _copy_number),
    *(_set_number, _set_number, _set_value, _set_value, _set_value, _spoil_weights),
)
