"""The weight formats of the TensorRT engine: their size, and which GPU runs which.

Which GPU runs which format follows the support matrix of TensorRT-LLM 1.2 ("Quantization", hardware
support), by compute capability, and public issues of the package where they know better. Sizes are
in bits for one weight, scales included; embeddings, `lm_head`, norms, routers and biases stay in 16
bits, as ModelOpt's default `exclude_modules` leaves them.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from runtime.planning.model_shape import ModelShape

PrecisionName = Literal[
    "bf16", "fp8", "fp8_block", "int8", "int4_awq", "nvfp4", "mxfp4", "mxfp8", "w4a16_nvfp4"
]

BYTES_16BIT = 2


class Precision(Struct, frozen=True, kw_only=True):
    """`bits` for one weight with its share of the scales; `group` is how many inputs share one.

    `computes_in` is what the tensor cores multiply: weight-only formats are unpacked to 16 bits.
    4-bit floats are counted at the rate of FP8, which they reach or exceed.
    """

    name: PrecisionName
    bits: float
    group: int = 1
    computes_in: Literal["fp16", "fp8"] = "fp16"


PRECISIONS: Mapping[PrecisionName, Precision] = {
    precision.name: precision
    for precision in (
        Precision(name="bf16", bits=16),
        Precision(name="fp8", bits=8, computes_in="fp8"),  # one scale for a whole matrix
        Precision(name="int8", bits=8),  # one scale for an output channel
        Precision(name="int4_awq", bits=4 + 16 / 128, group=128),
        Precision(name="nvfp4", bits=4 + 8 / 16, group=16, computes_in="fp8"),
        Precision(name="mxfp4", bits=4 + 8 / 32, group=32, computes_in="fp8"),
        Precision(name="fp8_block", bits=8 + 32 / 128**2, computes_in="fp8"),
        Precision(name="mxfp8", bits=8 + 8 / 32, group=32, computes_in="fp8"),
        Precision(name="w4a16_nvfp4", bits=4 + 8 / 16, group=16),
    )
}
"""`bf16` stands for FP16 too. A scale has 16 bits in AWQ once it is loaded (the file holds 32), 8
in NVFP4 (E4M3), MXFP4 and MXFP8 (E8M0), and 32 for each block of 128 × 128 in FP8 by blocks."""

STORED_ONLY: frozenset[PrecisionName] = frozenset(("fp8_block", "mxfp8", "w4a16_nvfp4"))
"""Formats that nobody is advised to make: they are planned for checkpoints that have them."""

_EVERYWHERE: tuple[PrecisionName, ...] = ("bf16", "fp8", "int8", "int4_awq")

_GENERATIONS: Mapping[int, tuple[str, tuple[PrecisionName, ...]]] = {
    80: ("Ampere", ("bf16", "int8", "int4_awq")),
    89: ("Ada", ("bf16", "fp8", "int8", "int4_awq", "w4a16_nvfp4")),
    90: ("Hopper", ("bf16", "fp8", "fp8_block", "int8", "int4_awq", "w4a16_nvfp4")),
    100: ("Blackwell", (*_EVERYWHERE, "nvfp4", "mxfp4", "mxfp8", "w4a16_nvfp4")),
    120: ("RTX Blackwell", (*_EVERYWHERE, "nvfp4", "mxfp4", "mxfp8", "w4a16_nvfp4")),
}
"""From this compute capability on (times ten): the generation's name, and what it runs. FP8 by
blocks is refused on Ada ("Unsupported SM version for FP8 block scaling GEMM")."""

Kernels = Literal["unknown", "stable", "late"]
"""Those of TensorRT-LLM 1.2, or of candidates of 1.3 since the middle of 2026."""

_ONLY_LATE: frozenset[tuple[str, PrecisionName]] = frozenset(
    [
        ("RTX Blackwell", "int4_awq"),
        *((name, "w4a16_nvfp4") for name in ("Ada", "Hopper", "Blackwell", "RTX Blackwell")),
    ]
)
"""Where kernels before the late ones answer wrongly or are missing."""

_UNPACKS = ("Ada", "Hopper", "Blackwell")
"""Generations on which the package unpacks w4a16_nvfp4 to 16 bits in every step."""

_NO_SINKS = ("Ampere", "Ada")
"""Generations on which the package refuses attention sinks (gpt-oss)."""

_DOUBTFUL_SINKS = "RTX Blackwell"
"""There a release of 2025 refused them. Nothing is known of later ones."""

_ADVICE: Mapping[PrecisionName, str] = {
    "fp8_block": "take a checkpoint in FP8 with one scale a matrix or a channel, or convert the"
    " 16-bit weights (lockgate-convert run --precision fp8)",
}


class Support(Struct, frozen=True):
    """Whether TensorRT-LLM runs a precision on a GPU. `note` is the reason if it does not, else a
    caveat or empty."""

    can_run: bool
    note: str = ""


def find_support(
    precision: Precision,
    shape: ModelShape,
    compute_capability: tuple[int, int],
    kernels: Kernels = "unknown",
) -> Support:
    """Whether TensorRT-LLM runs this model in this precision on a GPU of that compute
    capability."""
    name, runs = generation_of(compute_capability)
    if not runs:
        return Support(False, f"TensorRT-LLM does not run on {name}")
    if shape.has_sinks and name in _NO_SINKS:
        return Support(False, f"TensorRT-LLM refuses attention sinks, which it has, on {name}")
    if precision.name not in runs:
        return _refused(precision.name, name)
    uneven = [width for width in shape.linear_inputs if width % precision.group]
    if uneven:
        return Support(
            False, f"needs inputs in groups of {precision.group}, and the model has {uneven[0]}"
        )
    if precision.name == "int8":
        return _int8_support(shape)
    if (name, precision.name) in _ONLY_LATE and kernels != "late":
        return _late_support(precision.name, name, kernels)
    if precision.name == "w4a16_nvfp4" and name in _UNPACKS:
        return Support(True, f"on {name} it is unpacked in every step: slower than 16-bit weights")
    if shape.has_sinks and name == _DOUBTFUL_SINKS:
        return Support(True, f"TensorRT-LLM may refuse attention sinks, which it has, on {name}")
    return Support(True)


def _refused(precision: PrecisionName, generation: str) -> Support:
    advice = f"; {_ADVICE[precision]}" if precision in _ADVICE else ""
    return Support(False, f"TensorRT-LLM does not run {precision} on {generation}{advice}")


def _late_support(precision: PrecisionName, generation: str, kernels: Kernels) -> Support:
    note = (
        f"TensorRT-LLM 1.2 does not run {precision} rightly on {generation}: it takes a candidate"
        " of 1.3 since the middle of 2026"
    )
    return Support(kernels == "unknown", note)


def supports_fp8_kv(compute_capability: tuple[int, int]) -> bool:
    """Whether the KV cache may be in FP8: from Ampere on."""
    return bool(generation_of(compute_capability)[1])


def generation_of(compute_capability: tuple[int, int]) -> tuple[str, tuple[PrecisionName, ...]]:
    """The name of the GPU's generation, and the precisions that TensorRT-LLM runs on it: none
    before Ampere."""
    number = compute_capability[0] * 10 + compute_capability[1]
    reached = [least for least in _GENERATIONS if least <= number]
    if not reached:
        return f"compute capability {number / 10:.1f}", ()
    return _GENERATIONS[max(reached)]


def _int8_support(shape: ModelShape) -> Support:
    if shape.has_linear_bias:
        return Support(
            False, "TensorRT-LLM 1.2 drops the biases of this model's layers: wrong answers"
        )
    return Support(True, "weight-only INT8 is in TensorRT-LLM's code, not in its support matrix")
