"""What a conversion will do: options, the tensors to write, the files they go to."""

import hashlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from convert.architectures.base import Config
from convert.calibration import check_calibration
from convert.calibration.text import read_text
from convert.mapping.keep_quantized import check_levels
from convert.mapping.open_model import open_model
from convert.pipeline.manifest import FORMAT
from convert.source.folder import FolderSource
from convert.source.gguf import GGUFSource
from convert.target.layouts import make_layout
from convert.target.recipe import AWQ, Recipe, Release, check_recipe
from convert.target.small_files import (
    check_tokenizer,
    tokenizer_hash,
)
from convert.tensors.safetensors_file import MAX_SHARD_BYTES, Shard, plan_shards
from convert.tensors.weights import Weight
from runtime.version import __version__


class Options(Struct, frozen=True, kw_only=True):
    """Options outside the recipe. `tokenizer` is a folder with the original's files, or "".

    `calibration` is a text file for int4-awq, or "" for the text that comes with the converter.
    `requantize` decodes the integers of AWQ and GPTQ even where int4 could keep them.
    `num_threads` 0 means one per core, at most eight. `max_shard_bytes` bounds each file.
    """

    release: Release = "1.2"
    tokenizer: str = ""
    calibration: str = ""
    requantize: bool = False
    num_threads: int = 0
    max_shard_bytes: int = MAX_SHARD_BYTES


class Plan(Struct, frozen=True):
    """All that is known before the first weight is read."""

    source: GGUFSource | FolderSource
    architecture: str
    config: Config
    weights: list[Weight]
    recipe: Recipe
    options: Options
    shards: list[Shard]

    def fingerprint(self) -> str:
        """Equal for two runs that would write the same files."""
        files = [
            (Path(part.path).name, part.file_size, os.stat(part.path).st_mtime_ns)
            for part in self.source.parts
        ]
        headers = [hashlib.sha256(shard.header).hexdigest() for shard in self.shards]
        options = self.options.release, self.options.requantize, self.tokenizer_folder_hash()
        described = msgspec.json.encode(
            (FORMAT, __version__, files, self.recipe, options, headers, self._text())
        )
        return hashlib.sha256(described).hexdigest()

    @property
    def calibrates(self) -> bool:
        """Whether a weight's levels are searched with a text."""
        return any(self.recipe.precision_of(weight) == AWQ for weight in self.weights)

    @property
    def tokenizer_folder(self) -> Path | None:
        """The folder to copy the tokenizer's files from; None if the converter generates them."""
        if self.options.tokenizer:
            return Path(self.options.tokenizer)
        return self.source.folder if isinstance(self.source, FolderSource) else None

    def tokenizer_folder_hash(self) -> str:
        folder = self.tokenizer_folder
        return tokenizer_hash(folder) if folder is not None else ""

    def _text(self) -> str:
        if not self.calibrates:
            return ""
        return hashlib.sha256(read_text(self.options.calibration).encode()).hexdigest()


def make_plan(path: Path, recipe: Recipe, options: Options) -> Plan:
    """Read the header and decide everything. Raises SetupError for what cannot be done."""
    model = open_model(path, requantize=options.requantize)
    source, config, weights = model.source, model.config, model.weights
    check_recipe(recipe, weights, model.architecture, options.release)
    if isinstance(source, FolderSource):
        check_levels(source, weights, recipe)
        if not options.tokenizer:
            check_tokenizer(source.folder, str(source.folder))
    if any(recipe.precision_of(weight) == AWQ for weight in weights):
        check_calibration(config)
    layouts = (make_layout(w, recipe.precision_of(w), recipe.dtype) for w in weights)
    outputs = [output for layout in layouts for output in layout.outputs()]
    shards = plan_shards(outputs, options.max_shard_bytes)
    return Plan(source, model.architecture.name, config, weights, recipe, options, shards)
