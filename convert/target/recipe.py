"""Which precision each tensor gets: a default, and rules by the tensor's name."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from convert.architectures.base import Architecture
from convert.tensors.weights import Weight
from runtime.errors import SetupError

Dtype = Literal["bfloat16", "float16"]
Release = Literal["1.2", "1.3"]

PLAIN: dict[str, Dtype] = {"bf16": "bfloat16", "fp16": "float16"}
KEEP = "keep"
INT4_GROUP = 128
NVFP4_GROUP = 16
# TensorRT-LLM's names of the precisions (QuantAlgo).
_QUANTIZED = {
    "fp8": "FP8",
    "int4-awq": "W4A16_AWQ",
    "int4-rtn": "W4A16_AWQ",
    "int8": "W8A16",
    "nvfp4-w4a16": "W4A16_NVFP4",
}
AWQ = "int4-awq"
# int4 for a weight that comes with its levels; users cannot ask for it by name.
KEPT = "int4-kept"
# TensorRT-LLM 1.2's fused experts (modules/fused_moe/quantization.py).
_NO_INT4_EXPERTS = "the loader takes 4-bit experts with FP8 activations only"
_NO_EXPERTS = {
    "fp8": "the loader wants an `input_scale` of each expert, which takes measuring",
    **dict.fromkeys(("int4-rtn", AWQ, KEPT), _NO_INT4_EXPERTS),
    "nvfp4-w4a16": "their loader is not known",
}
ALGORITHMS = {**_QUANTIZED, KEPT: "W4A16_AWQ"}
PRECISIONS = (*PLAIN, *_QUANTIZED)


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """Tensors whose name matches the pattern `match` (*, ? and [abc]) get `precision`.

    `precision` is "keep" for the plain type, or one of the quantized ones.
    """

    match: str
    precision: str


class Recipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to store a model.

    `precision` is that of the linear layers inside the decoder, `dtype` that of everything else
    (with precision bf16 or fp16 of everything). The first of `rules` that matches wins. Embedding,
    norms, biases and the output layer are never quantized. `kv_cache` is "fp8", or "" for `dtype`.
    """

    precision: str
    dtype: Dtype = "bfloat16"
    kv_cache: Literal["", "fp8"] = ""
    rules: tuple[Rule, ...] = ()

    def precision_of(self, weight: Weight) -> str:
        """A key of ALGORITHMS, or KEEP."""
        if not weight.linear:
            return KEEP
        wanted = self._wanted(weight)
        is_int4 = ALGORITHMS.get(wanted) == "W4A16_AWQ"
        return KEPT if is_int4 and weight.has_levels else wanted

    def _wanted(self, weight: Weight) -> str:
        for rule in self.rules:
            if fnmatchcase(weight.name, rule.match):
                return rule.precision
        return KEEP if self.precision in PLAIN else self.precision


def make_recipe(precision: str, *, dtype: Dtype | None = None, kv_cache: str = "") -> Recipe:
    """A recipe without rules. Raises SetupError for a precision that does not exist."""
    return _checked(Recipe(precision=precision, dtype=dtype or "bfloat16", kv_cache=kv_cache))  # type: ignore[arg-type]


def load_recipe(path: str | Path) -> Recipe:
    """Read a TOML file with the fields of `Recipe`. Raises SetupError, naming the field."""
    try:
        return _checked(msgspec.toml.decode(Path(path).read_bytes(), type=Recipe))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"{path}: {error}") from error


def check_recipe(
    recipe: Recipe, weights: list[Weight], architecture: Architecture, release: Release
) -> None:
    """Raises SetupError for a weight that the layouts or that release's loader cannot take."""
    groups: dict[str, tuple[str, str]] = {}
    used = {recipe.precision_of(weight) for weight in weights}
    for rule in recipe.rules:
        if not any(fnmatchcase(weight.name, rule.match) for weight in weights if weight.linear):
            raise SetupError(f"recipe: `match` {rule.match!r} matches no linear layer.")
    for precision in used & architecture.refused.keys():
        reason = architecture.refused[precision]
        raise SetupError(
            f"precision {precision} is not possible for {architecture.name}: {reason}."
        )
    if "int8" in used and release == "1.2" and (bias := _attention_bias(weights)):
        raise SetupError(
            f"precision int8: TensorRT-LLM 1.2 drops the bias of int8 layers, and the model has "
            f"`{bias}`; use fp8 or int4-rtn, or --release 1.3."
        )
    if "nvfp4-w4a16" in used and release == "1.2":
        raise SetupError(
            "precision nvfp4-w4a16: TensorRT-LLM 1.2 does not load it; use int4-awq, or a late "
            "candidate of 1.3 with --release 1.3."
        )
    for weight in weights:
        precision = recipe.precision_of(weight)
        _check_expert(weight, precision)
        _check_shape(weight, precision)
        fused = weight.experts or weight.group or weight.name
        first = groups.setdefault(fused, (precision, weight.name))
        if first[0] != precision:
            raise SetupError(
                f"recipe: `{first[1]}` is {first[0]} and `{weight.name}` is {precision}, but the "
                "loader fuses them; give them the same precision."
            )


def _checked(recipe: Recipe) -> Recipe:
    if recipe.precision not in PRECISIONS:
        raise SetupError(
            f"`precision` {recipe.precision!r}: must be one of {', '.join(PRECISIONS)}."
        )
    for rule in recipe.rules:
        if rule.precision not in (KEEP, *_QUANTIZED):
            raise SetupError(
                f"`precision` {rule.precision!r} of the rule {rule.match!r}: must be one of "
                f"{', '.join((KEEP, *_QUANTIZED))}."
            )
    if recipe.precision in PLAIN:
        return msgspec.structs.replace(recipe, dtype=PLAIN[recipe.precision])
    return recipe


def _attention_bias(weights: list[Weight]) -> str:
    return next((weight.name for weight in weights if weight.name.endswith("_proj.bias")), "")


def _check_expert(weight: Weight, precision: str) -> None:
    if weight.experts and precision in _NO_EXPERTS:
        raise SetupError(
            f"precision {precision}: not possible for the experts, `{weight.name}`: "
            f"{_NO_EXPERTS[precision]}. Use bf16, fp16 or int8, or a recipe with the rule "
            'match = "*.experts.*", precision = "keep".'
        )


def _check_shape(weight: Weight, precision: str) -> None:
    if precision == "nvfp4-w4a16" and weight.shape[1] % NVFP4_GROUP:
        raise SetupError(
            f"precision {precision}: `{weight.name}` has {weight.shape[1]} inputs; it needs groups "
            f'of {NVFP4_GROUP}. Give it precision "keep" in a recipe.'
        )
    if ALGORITHMS.get(precision) != "W4A16_AWQ":
        return
    rows, columns = weight.shape
    if columns % INT4_GROUP or rows % 2:
        raise SetupError(
            f"precision {precision}: `{weight.name}` is {rows} by {columns}; it needs inputs in "
            f'groups of {INT4_GROUP} and outputs in pairs. Give it precision "keep" in a recipe.'
        )
