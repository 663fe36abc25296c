"""From a source to a finished folder: plan, weights by several threads, manifest."""

import hashlib
import zlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from io import FileIO
from pathlib import Path
from threading import Event, Lock

import numpy as np

from convert.calibration import Calibrating, Calibration, calibrate
from convert.calibration.text import calibration_sequences, read_text
from convert.mapping.keep_quantized import kept_grid
from convert.pipeline.manifest import FORMAT, Manifest, SourceFile, TensorRecord
from convert.pipeline.plan import (
    Options,
    Plan,
    make_plan,
)
from convert.pipeline.pool import (
    Pool,
    Stopped,
)
from convert.pipeline.workspace import Workspace, open_workspace, refuse_existing
from convert.source.blocks import read_blocks
from convert.source.folder import FolderSource
from convert.source.gguf import GGUFSource
from convert.target.layouts import WITH_AMAX, Grid, Layout, make_layout
from convert.target.recipe import AWQ, KEEP, KEPT, Recipe
from convert.target.small_files import (
    copy_config,
    copy_tokenizer,
    write_config,
    write_quantization,
    write_tokenizer,
)
from convert.tensors.error_meter import DifferenceMeter
from convert.tensors.safetensors_file import index_of
from convert.tensors.source_tensor import Rows
from convert.tensors.weights import Weight
from runtime.errors import ModelFileError
from runtime.hardware.allowance import cores_allowed
from runtime.tokenizers.load import load_tokenizer
from runtime.version import __version__

_MAX_THREADS = 8
_HASH_CHUNK = 1 << 22

Progress = Callable[[int], None]


def convert(
    path: Path,
    target: Path,
    recipe: Recipe,
    options: Options,
    progress: Progress,
    calibrating: Calibrating | None = None,
) -> Manifest:
    """Write the checkpoint to `target`, which must not exist, and return its manifest.

    `progress` is called, by one thread at a time, with the source's bytes of each finished weight,
    `calibrating` before that with the layers that int4-awq has looked at.
    Raises SetupError (ModelFileError for the source) and leaves TARGET.partial, which the next run
    with the same arguments goes on with.
    """
    refuse_existing(target)
    plan = make_plan(path, recipe, options)
    with open_workspace(target, plan.fingerprint(), plan.shards) as workspace:
        _write_small_files(plan, workspace.folder)
        calibration = _calibrate(plan, workspace.folder, calibrating)
        with Pool(options.num_threads or min(_MAX_THREADS, cores_allowed().num_threads)) as pool:
            converter = _Converter(plan, workspace, calibration, pool.stop, progress)
            hashes = (partial(_hash, Path(part.path), pool.stop) for part in plan.source.parts)
            groups = (partial(converter.convert_group, group) for group in _groups(plan.weights))
            # the tokenizer is slow and needs one core: first, beside the weights
            tokenizer = partial(_write_tokenizer, plan, workspace.folder)
            results = pool.run(tokenizer, *groups, *hashes)
        result = Manifest(
            format=FORMAT,
            lockgate=__version__,
            architecture=plan.architecture,
            release=options.release,
            recipe=recipe,
            sources=tuple(result for result in results if result is not None),
            tensors=tuple(workspace.done[weight.name] for weight in plan.weights),
        )
        if calibration is not None:
            calibration.remove()
        workspace.finish(result)
    return result


def _calibrate(plan: Plan, folder: Path, progress: Calibrating | None) -> Calibration | None:
    """The levels of int4-awq; None if no weight is stored in it."""
    if not plan.calibrates:
        return None
    _write_tokenizer(plan, folder)
    text = read_text(plan.options.calibration)
    sequences = calibration_sequences(text, load_tokenizer(folder))
    report = progress or (lambda done, count: None)
    return calibrate(plan.source, plan.weights, plan.config, plan.recipe, sequences, folder, report)


class _Converter:
    """Writes groups of weights; one thread works on a group from its beginning to its end."""

    def __init__(
        self,
        plan: Plan,
        workspace: Workspace,
        calibration: Calibration | None,
        stop: Event,
        progress: Progress,
    ) -> None:
        self._plan = plan
        self._calibration = calibration
        self._workspace = workspace
        self._stop = stop
        self._progress = progress
        self._lock = Lock()

    def convert_group(self, group: list[Weight]) -> None:
        """Converts a group: weights that the loader fuses, or a single weight."""
        recipe = self._plan.recipe
        left = [weight for weight in group if weight.name not in self._workspace.done]
        for weight in group:
            if weight not in left:
                self._advance(weight)
        precision = recipe.precision_of(group[0])
        amax = self._amax(group) if precision in WITH_AMAX and left else 0.0
        for weight in left:
            layout = make_layout(weight, precision, recipe.dtype, amax, self._grid(weight))
            self._workspace.record(self._convert(weight, precision, layout))
            self._advance(weight)

    def _convert(self, weight: Weight, precision: str, layout: Layout) -> TensorRecord:
        meter = DifferenceMeter()
        constants = layout.constants()
        recipe_dtype = self._plan.recipe.dtype
        with ExitStack() as stack:
            names = [output.name for output in layout.outputs()]
            writers = {name: stack.enter_context(self._writer(name)) for name in names}
            for name, array in constants.items():
                writers[name].write(array)
            for rows in self._blocks(weight):
                part = layout.encode(rows)
                for name, array in part.items():
                    writers[name].write(array)
                written = layout.decode({**part, **constants})
                if recipe_dtype == "float16":
                    _check_range(written, weight)
                meter.add(rows, written)
        return TensorRecord(
            name=weight.name,
            precision=self._plan.recipe.dtype if precision == KEEP else precision,
            difference=meter.result(),
            crc32={name: writer.crc for name, writer in writers.items()},
        )

    def _amax(self, group: list[Weight]) -> float:
        return max(float(np.abs(rows).max()) for weight in group for rows in self._blocks(weight))

    def _grid(self, weight: Weight) -> Grid | None:
        precision = self._plan.recipe.precision_of(weight)
        source = self._plan.source
        if precision == KEPT and isinstance(source, FolderSource):
            return kept_grid(source, weight, self._plan.recipe.dtype)
        if self._calibration is None or precision != AWQ:
            return None
        return self._calibration.grid(weight)

    def _blocks(self, weight: Weight) -> Iterable[Rows]:
        adjust = self._calibration.adjustment(weight) if self._calibration is not None else None
        for rows in read_blocks(self._plan.source, weight):
            if self._stop.is_set():
                raise Stopped
            yield rows if adjust is None else adjust(rows)

    def _writer(self, name: str) -> "_TensorWriter":
        return _TensorWriter(self._workspace.path(name), self._workspace.place(name).offset)

    def _advance(self, weight: Weight) -> None:
        with self._lock:
            tensor = self._plan.source.tensor(weight.source)
            self._progress(tensor.num_bytes * weight.num_rows // max(1, tensor.num_rows))


class _TensorWriter:
    """Writes one tensor's bytes one after the other."""

    def __init__(self, path: Path, offset: int) -> None:
        self._file = FileIO(path, "r+")
        self._file.seek(offset)
        self.crc = 0

    def __enter__(self) -> "_TensorWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> None:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        self.crc = zlib.crc32(data, self.crc)
        while len(data):
            data = data[self._file.write(data) :]


def _write_small_files(plan: Plan, folder: Path) -> None:
    if isinstance(plan.source, FolderSource):
        copy_config(folder, plan.source, plan.recipe)
    else:
        write_config(folder, plan.source.header, plan.config, plan.recipe)
    write_quantization(folder, plan.weights, plan.recipe)
    if len(plan.shards) > 1:
        (folder / "model.safetensors.index.json").write_bytes(index_of(plan.shards))


def _write_tokenizer(plan: Plan, folder: Path) -> None:
    if plan.tokenizer_folder is not None:
        copy_tokenizer(folder, plan.tokenizer_folder)
    elif isinstance(plan.source, GGUFSource):
        write_tokenizer(folder, plan.source.header)


def _groups(weights: list[Weight]) -> list[list[Weight]]:
    """Fused weights together; the largest first, so that no thread is left with one at the end."""
    groups: dict[str, list[Weight]] = {}
    for weight in weights:
        groups.setdefault(weight.group or weight.name, []).append(weight)
    return sorted(groups.values(), key=lambda group: -sum(map(_num_values, group)))


def _num_values(weight: Weight) -> int:
    count = 1
    for size in weight.shape:
        count *= size
    return count


def _check_range(written: Rows, weight: Weight) -> None:
    if not np.isfinite(written).all():
        raise ModelFileError(
            f"{weight.name}: some values are too large for float16; choose bf16, or "
            "--dtype bfloat16."
        )


def _hash(path: Path, stop: Event) -> SourceFile:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_HASH_CHUNK):
            digest.update(data)
            if stop.is_set():
                raise Stopped
    return SourceFile(path.name, path.stat().st_size, digest.hexdigest())
