"""Runs a text through the model, layer by layer, and searches what int4-awq needs."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convert.architectures.base import Config
from convert.calibration.decoder import MODEL_TYPES, Decoder
from convert.calibration.folding import folded_norm, norm_of
from convert.calibration.inputs import Inputs
from convert.calibration.search import search_scale, search_steps
from convert.calibration.store import Calibration
from convert.source.blocks import read_blocks
from convert.target.layouts import as_dtype
from convert.target.recipe import AWQ, Recipe
from convert.tensors.source_tensor import Rows, Source
from convert.tensors.weights import Weight
from runtime.errors import SetupError

Calibrating = Callable[[int, int], None]
"""Called with the number of layers that are done and of all."""

# The product of q and k suffers more from clipping than their own errors tell, so AWQ's authors
# leave them out.
_UNCLIPPED = (".q_proj", ".k_proj")

TokenIds = npt.NDArray[np.int64]


def check_calibration(config: Config) -> None:
    """Raises SetupError for a model that cannot be run here."""
    kind = config.get("model_type")
    if kind not in MODEL_TYPES:
        raise SetupError(
            f"precision {AWQ}: models of the type {kind!r} cannot be calibrated; "
            f"known are {', '.join(sorted(MODEL_TYPES))}."
        )


def calibrate(
    source: Source,
    weights: list[Weight],
    config: Config,
    recipe: Recipe,
    sequences: TokenIds,
    folder: Path,
    progress: Calibrating,
) -> Calibration:
    """Search the scales of every int4-awq weight; `sequences` are token ids, (count, length).

    Layers whose results are in `folder` already are computed and not searched again. Memory, in
    float32: once the largest activations of one layer, (tokens, intermediate_size), a few times the
    smaller ones, (tokens, hidden_size), and a few times the largest matrix.
    """
    store, count = Calibration(folder), int(config["num_hidden_layers"])
    if all(store.has(layer) for layer in range(count)):
        return store
    loader = _Loader(source, weights)
    search = _LayerSearch(loader, recipe, gemma=str(config["model_type"]).startswith("gemma"))
    decoder = Decoder(config, loader, search.observe)
    length = sequences.shape[1]
    hidden = decoder.embed(loader.gather("model.embed_tokens.weight", sequences.reshape(-1)))
    for layer in range(count):
        search.enabled = not store.has(layer)
        hidden = decoder.layer(hidden, layer, length)
        if search.enabled:
            store.save(layer, search.take())
        progress(layer + 1, count)
    return store


class _LayerSearch:
    """Collects the results of one layer."""

    def __init__(self, loader: "_Loader", recipe: Recipe, *, gemma: bool) -> None:
        self._loader = loader
        self._recipe = recipe
        self._gemma = gemma
        self._found: dict[str, Rows] = {}
        self.enabled = True

    def observe(self, names: list[str], x: Rows) -> None:
        """Search for weights that share the input `x`, and their recipe's precision."""
        weights = [self._loader.weights[name] for name in names]
        if not self.enabled or self._recipe.precision_of(weights[0]) != AWQ:
            return
        inputs = Inputs(x)
        scale = search_scale(inputs, [partial(self._loader.load, name) for name in names])
        magnified = self._fold(weights, scale)
        clipped = [weight for weight in weights if not weight.module.endswith(_UNCLIPPED)]
        gram = inputs.gram(magnified) if clipped else None
        for weight in weights:
            values = self._loader.load(weight.name)
            values *= magnified
            steps = search_steps(values, self._recipe.dtype, gram if weight in clipped else None)
            self._found[f"{weight.module}.steps"] = steps

    def take(self) -> dict[str, Rows]:
        found, self._found = self._found, {}
        return found

    def _fold(self, weights: list[Weight], scale: Rows) -> Rows:
        """Record where the inputs are divided, and return the exact divisor after rounding."""
        dtype = self._recipe.dtype
        norm = norm_of(weights[0], self._loader.weights)
        if norm is None:
            input_scale = as_dtype(np.reciprocal(scale), dtype)
            self._found[f"{weights[0].module}.input_scale"] = input_scale
            return np.reciprocal(input_scale)
        original = self._loader.load(norm).reshape(-1)
        written, magnified = folded_norm(original, scale, dtype, gemma=self._gemma)
        self._found[norm] = written
        for weight in weights:
            self._found[f"{weight.module}.magnified"] = magnified
        return magnified


class _Loader:
    """Whole weights of a source, as Hugging Face's model has them."""

    def __init__(self, source: Source, weights: Iterable[Weight]) -> None:
        self._source = source
        self.weights = {weight.name: weight for weight in weights}

    def has(self, name: str) -> bool:
        return name in self.weights

    def load(self, name: str) -> Rows:
        weight = self.weights[name]
        values = np.empty(weight.shape, dtype=np.float32)
        flat, start = values.reshape(-1), 0
        for rows in read_blocks(self._source, weight):
            flat[start : start + rows.size] = rows.reshape(-1)
            start += rows.size
        return values

    def gather(self, name: str, ids: TokenIds) -> Rows:
        """Rows of a matrix that is never loaded whole."""
        weight = self.weights[name]
        values = np.empty((len(ids), weight.shape[1]), dtype=np.float32)
        start = 0
        for rows in read_blocks(self._source, weight):
            wanted = np.flatnonzero((ids >= start) & (ids < start + len(rows)))
            values[wanted] = rows[ids[wanted] - start]
            start += len(rows)
        return values
