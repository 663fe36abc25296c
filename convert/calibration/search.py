"""The searches of AWQ: how much to magnify each input before rounding, and where to clip.

Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration"
(arXiv 2306.00978), equations 4 and 5: of a layer with weight W and inputs X, find

    s* = argmin over s of || (Q(W diag(s)) diag(s)^-1 - W) X ||,   s = mean(|X|)^a,  0 <= a <= 1

where Q rounds to four bits in groups of 128 inputs. Layers with the same input share s. Then each
group of each output is clipped at the fraction of its largest magnitude that gives the least error
of its own share of the output.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from convert.calibration.inputs import Inputs
from convert.target.layouts import INT4_MAX, INT4_MIN, int4_steps
from convert.target.recipe import INT4_GROUP, Dtype
from convert.tensors.source_tensor import Rows

# Number of calibration tokens that judge a scale, spaced as evenly as possible.
_JUDGES = 1024
_COARSE = tuple(i / 10 for i in range(11))
_FINE = 0.05
_RATIOS = tuple(1 - i / 20 for i in range(11))
_BLOCK_VALUES = 1 << 18

Load = Callable[[], Rows]
"""Reads a weight of shape (out, in); called once for each pass over it."""


def search_scale(x: Inputs, weights: Sequence[Load]) -> Rows:
    """s of shape (in,), all positive, for weights that share the inputs `x`."""
    mean = x.mean()
    judges = np.ascontiguousarray(x.tokens(slice(None, None, max(1, len(x) // _JUDGES))).T)
    losses = _losses(judges, weights, {a: scale_of(mean, a) for a in _COARSE})
    best = min(losses, key=losses.__getitem__)
    near = [a for a in (best - _FINE, best + _FINE) if 0 < a < 1]
    losses |= _losses(judges, weights, {a: scale_of(mean, a) for a in near})
    return scale_of(mean, min(losses, key=losses.__getitem__))


def scale_of(mean: Rows, exponent: float) -> Rows:
    """mean^exponent, divided by the root of its extremes' product so that it stays around 1."""
    # a dead channel must not be magnified without bound
    scale = np.maximum(mean, max(1e-4 * float(mean.max()), 1e-8)) ** np.float32(exponent)
    scale /= np.sqrt(scale.max() * scale.min())
    result: Rows = scale.astype(np.float32)
    return result


def search_steps(weight: Rows, dtype: Dtype, gram: Rows | None) -> Rows:
    """The distance of the levels for each output and group, of shape (out, in / 128), in `dtype`.

    `weight` is the one that the layer computes with, after scaling, and `gram` is `Inputs.gram` of
    the scaled inputs. Without `gram` nothing is clipped, and the largest level still represents
    the largest magnitude of each group.
    """
    outputs, inputs = weight.shape
    if gram is None:
        largest = np.abs(weight.reshape(outputs, -1, INT4_GROUP)).max(axis=2)
        return int4_steps(largest, dtype)
    steps = np.empty((outputs, inputs // INT4_GROUP), dtype=np.float32)
    for rows in _row_blocks(outputs, inputs):
        block = weight[rows].reshape(-1, inputs // INT4_GROUP, INT4_GROUP).transpose(1, 0, 2)
        steps[rows] = _clipped(np.ascontiguousarray(block), gram, dtype).T
    return steps


def _clipped(block: Rows, gram: Rows, dtype: Dtype) -> Rows:
    """The best steps of a block of shape (groups, outputs, 128)."""
    largest = np.abs(block).max(axis=2)
    best = np.full(largest.shape, np.inf, dtype=np.float32)
    steps = np.empty_like(best)
    for ratio in _RATIOS:
        tried = int4_steps(largest * np.float32(ratio), dtype)
        error = _rounded(block, tried[..., None])
        error -= block
        loss = np.einsum("gok,gok->go", np.matmul(error, gram), error)
        better = loss < best
        best[better], steps[better] = loss[better], tried[better]
    return steps


def _losses(
    judges: Rows, weights: Sequence[Load], candidates: dict[float, Rows]
) -> dict[float, float]:
    losses = dict.fromkeys(candidates, 0.0)
    for load in weights:
        weight = load()
        for rows in _row_blocks(*weight.shape):
            block = weight[rows]
            for exponent, scale in candidates.items():
                losses[exponent] += _loss(block, scale, judges)
    return losses


def _loss(block: Rows, scale: Rows, judges: Rows) -> float:
    scaled = block * scale
    groups = scaled.reshape(len(block), -1, INT4_GROUP)
    steps = np.abs(groups).max(axis=2, keepdims=True) / np.float32(INT4_MAX)
    steps[steps == 0] = 1
    error = _rounded(groups, steps)
    error -= groups
    flat = error.reshape(block.shape)
    flat /= scale
    output = flat @ judges
    return float(np.einsum("ij,ij->", output, output))


def _rounded(values: Rows, steps: Rows) -> Rows:
    levels = values / steps
    np.rint(levels, out=levels)
    np.clip(levels, INT4_MIN, INT4_MAX, out=levels)
    levels *= steps
    return levels


def _row_blocks(outputs: int, inputs: int) -> Iterator[slice]:
    step = max(1, _BLOCK_VALUES // inputs)
    for start in range(0, outputs, step):
        yield slice(start, start + step)
