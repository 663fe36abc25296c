"""Plans what fits on a GPU, how fast it can be at most, and which settings follow.

`memory_account` divides the memory, `roofline` gives the upper bounds of the rates. All functions
are pure: they need a model's shape, a GPU's data and the user's settings.
"""

import bisect

import msgspec
from msgspec import Struct

from runtime.errors import SetupError
from runtime.hardware.gpu_table import GpuSpec
from runtime.planning.memory_account import (
    AUTO_CONTEXT,
    AUTO_MAX_BATCH_SIZE,
    TOKENS_PER_BLOCK,
    Budget,
    KVCacheDtype,
    Wishes,
    account,
    held_tokens,
    kv_bytes,
    kv_bytes_per_token,
    longest_fit,
    weight_bytes,
)
from runtime.planning.model_shape import ModelShape
from runtime.planning.precisions import (
    PRECISIONS,
    STORED_ONLY,
    Kernels,
    Precision,
    PrecisionName,
    Support,
    find_support,
    supports_fp8_kv,
)
from runtime.planning.roofline import Roofline, expected_speedup, roofline

DEFAULT_WISHES = Wishes()


class Speculation(Struct, frozen=True, kw_only=True):
    """The expected gain of speculative decoding for one stream. The values are assumed, not
    measured: how often a drafted token is right (`acceptance_rate`) depends on the text and on the
    draft. `draft_cost` is the cost of drafting a token, as a share of a step."""

    acceptance_rate: float = 0.7
    num_draft_tokens: int = 3
    draft_cost: float = 0.05

    @property
    def speedup(self) -> float:
        """How many times as fast one stream is expected to be."""
        return expected_speedup(self.acceptance_rate, self.num_draft_tokens, self.draft_cost)


class PrecisionPlan(Struct, frozen=True, kw_only=True):
    """One precision on one GPU.

    `fits` says whether one stream of `context` tokens fits beside the weights; `num_streams` is how
    many do, at most `max_batch_size`; `max_kv_tokens` is how many tokens the KV cache holds in
    streams of that length. The rates are without speculation: of one stream at its first token and
    at its last, and of `num_streams` at their last; None when nothing fits. `streams_for_target` is
    the smallest batch whose upper bound reaches the plan's target, None if there is none.
    """

    precision: PrecisionName
    support: Support
    budget: Budget
    kv_bytes_per_token: int
    kv_bytes_per_stream: int
    fits: bool
    num_streams: int
    max_kv_tokens: int
    one_stream_at_start: Roofline | None = None
    one_stream: Roofline | None = None
    largest_batch: Roofline | None = None
    streams_for_target: int | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """A model on a GPU: one row for each precision. `target` is in tokens a second, in total."""

    model: str
    gpu: GpuSpec
    num_params: int
    context: int
    max_batch_size: int
    kv_cache_dtype: KVCacheDtype
    target: float
    speculation: Speculation
    rows: tuple[PrecisionPlan, ...]


class EnginePlan(Struct, frozen=True, kw_only=True):
    """Settings of the TensorRT engine that fit. Names as in TensorRT-LLM.

    `max_attention_window` has an entry for each layer, in tokens. It is empty when no layer has a
    window. If it is not set, the engine keeps all tokens in all layers, and fewer of them fit.
    `caveat` is why the model may not run after all, empty if nothing speaks against it.
    """

    max_seq_len: int
    max_batch_size: int
    max_num_tokens: int
    free_gpu_memory_fraction: float
    kv_cache_dtype: KVCacheDtype
    max_attention_window: tuple[int, ...]
    max_kv_tokens: int
    budget: Budget
    caveat: str = ""


def make_plan(
    shape: ModelShape,
    gpu: GpuSpec,
    wishes: Wishes = DEFAULT_WISHES,
    *,
    precisions: tuple[PrecisionName, ...] = tuple(PRECISIONS),
    stored: tuple[PrecisionName, int] | None = None,
    target: float = 200.0,
    kernels: Kernels = "unknown",
) -> Plan:
    """The plan of a model on a GPU, with one row for each precision. `stored` is the precision of
    the weights on the disk, and their size in bytes; `kernels` is what is installed.

    Raises SetupError for a context that is longer than the model's, and for an FP8 cache on a GPU
    that does not support it.
    """
    _check_wishes(shape, gpu, wishes)
    context = wishes.context or min(AUTO_CONTEXT, shape.max_model_len)
    sizes = dict([stored] if stored else [])
    return Plan(
        model=shape.name,
        gpu=gpu,
        num_params=shape.num_params,
        context=context,
        max_batch_size=wishes.batch_size,
        kv_cache_dtype=wishes.kv_cache_dtype,
        target=target,
        speculation=Speculation(),
        rows=tuple(
            _row(
                _case(shape, gpu, name, wishes, sizes.get(name)),
                find_support(PRECISIONS[name], shape, gpu.compute_capability, kernels),
                context=context,
                target=target,
            )
            for name in precisions
        ),
    )


def fill(
    shape: ModelShape,
    gpu: GpuSpec,
    precision: PrecisionName,
    wishes: Wishes = DEFAULT_WISHES,
    *,
    weights: int | None = None,
    kernels: Kernels = "unknown",
) -> EnginePlan:
    """Settings that fit: those of `wishes` unchanged, the rest chosen.

    `weights` is the size of the checkpoint in bytes if it is known, `kernels` what is installed.
    The longest sequence is the model's own, or what the KV cache holds; the batch is as many
    sequences of `AUTO_CONTEXT` tokens as fit, at most `AUTO_MAX_BATCH_SIZE`. Raises SetupError,
    with the numbers and what to do, when not even one sequence of the requested length fits.
    """
    _check_wishes(shape, gpu, wishes)
    support = find_support(PRECISIONS[precision], shape, gpu.compute_capability, kernels)
    if not support.can_run:
        raise SetupError(f"{shape.name} in {precision} cannot run on {gpu.name}: {support.note}")
    case = _case(shape, gpu, precision, wishes, weights)
    budget = case.budget
    longest = longest_fit(shape, budget.kv_cache, shape.max_model_len, wishes.kv_cache_dtype)
    if longest < (wishes.context or 1):
        raise _cannot_fit(case, longest, kernels)
    context = wishes.context or longest
    batch = wishes.max_batch_size or _auto_batch(shape, budget, context, wishes)
    free = budget.memory - budget.weights - budget.runtime - budget.activations
    return EnginePlan(
        max_seq_len=context,
        max_batch_size=batch,
        max_num_tokens=wishes.step_tokens,
        free_gpu_memory_fraction=budget.kv_cache / free,
        kv_cache_dtype=wishes.kv_cache_dtype,
        max_attention_window=_attention_windows(shape, context),
        max_kv_tokens=held_tokens(shape, budget.kv_cache, context, wishes.kv_cache_dtype),
        budget=budget,
        caveat=support.note,
    )


def _check_wishes(shape: ModelShape, gpu: GpuSpec, wishes: Wishes) -> None:
    for name in ("context", "max_batch_size", "max_num_tokens"):
        value = getattr(wishes, name)
        if value is not None and value < 1:
            raise SetupError(f"{name} is {value}; it has to be at least 1")
    if wishes.context is not None and wishes.context > shape.max_model_len:
        raise SetupError(
            f"{shape.name} has a context of {shape.max_model_len:,} tokens, and"
            f" {wishes.context:,} were asked for. Ask for fewer."
        )
    if wishes.kv_cache_dtype == "fp8" and not supports_fp8_kv(gpu.compute_capability):
        raise SetupError(f"{gpu.name} is too old for a KV cache in FP8; leave it on auto")


def _row(case: "_Case", support: Support, *, context: int, target: float) -> PrecisionPlan:
    dtype = case.wishes.kv_cache_dtype
    per_stream = kv_bytes(case.shape, context, dtype)
    num_streams = min(max(case.budget.kv_cache, 0) // per_stream, case.wishes.batch_size)
    plan = PrecisionPlan(
        precision=case.precision.name,
        support=support,
        budget=case.budget,
        kv_bytes_per_token=kv_bytes_per_token(case.shape, dtype),
        kv_bytes_per_stream=per_stream,
        fits=num_streams > 0,
        num_streams=num_streams,
        max_kv_tokens=held_tokens(case.shape, case.budget.kv_cache, context, dtype),
    )
    return case.with_rates(plan, context, target) if plan.fits else plan


class _Case(Struct, frozen=True):
    """One model in one precision on one GPU."""

    shape: ModelShape
    gpu: GpuSpec
    precision: Precision
    wishes: Wishes
    budget: Budget

    def ceiling(self, num_streams: int, context: int) -> Roofline:
        return roofline(
            self.shape,
            self.gpu,
            self.precision,
            num_streams=num_streams,
            context=context,
            kv_cache_dtype=self.wishes.kv_cache_dtype,
            weights=self.budget.weights,
        )

    def with_rates(self, plan: PrecisionPlan, context: int, target: float) -> PrecisionPlan:
        batches = range(1, plan.num_streams + 1)
        reached = bisect.bisect_left(
            batches, target, key=lambda batch: self.ceiling(batch, context).tokens_per_second
        )
        return msgspec.structs.replace(
            plan,
            one_stream_at_start=self.ceiling(1, 1),
            one_stream=self.ceiling(1, context),
            largest_batch=self.ceiling(plan.num_streams, context),
            streams_for_target=batches[reached] if reached < len(batches) else None,
        )


def _case(
    shape: ModelShape, gpu: GpuSpec, name: PrecisionName, wishes: Wishes, weights: int | None
) -> _Case:
    precision = PRECISIONS[name]
    num_bytes = weight_bytes(shape, precision) if weights is None else weights
    budget = account(shape, gpu.memory_bytes, num_bytes, wishes)
    return _Case(shape, gpu, precision, wishes, budget)


def _auto_batch(shape: ModelShape, budget: Budget, context: int, wishes: Wishes) -> int:
    usual = kv_bytes(shape, min(context, AUTO_CONTEXT), wishes.kv_cache_dtype)
    return max(1, min(AUTO_MAX_BATCH_SIZE, budget.kv_cache // usual))


def _attention_windows(shape: ModelShape, context: int) -> tuple[int, ...]:
    if not any(shape.windows):
        return ()
    return tuple(min(window or context, context) for window in shape.windows)


def _cannot_fit(case: _Case, longest: int, kernels: Kernels) -> SetupError:
    wishes, budget = case.wishes, case.budget
    needed = kv_bytes(case.shape, wishes.context or 1, wishes.kv_cache_dtype)
    length = f"{wishes.context:,} tokens" if wishes.context else "a single token"
    return SetupError(
        f"{case.shape.name} in {case.precision.name} cannot fit on {case.gpu.name}: of"
        f" {_gb(budget.memory)}, the weights take {_gb(budget.weights)}, the runtime"
        f" {_gb(budget.runtime)}, activations {_gb(budget.activations)} and the reserve"
        f" {_gb(budget.reserve)}. That leaves {_gb(budget.kv_cache)} for the KV cache, and a"
        f" sequence of {length} needs {_gb(needed)}. {_advice(case, longest, kernels)}"
    )


def _advice(case: _Case, longest: int, kernels: Kernels) -> str:
    """Advice for a model that does not fit: only the ways that would help."""
    wishes, context = case.wishes, case.wishes.context or 1
    smaller = [
        f"{row.precision} ({_gb(row.budget.weights)} of weights)"
        for row in make_plan(case.shape, case.gpu, wishes, kernels=kernels).rows
        if row.support.can_run
        and row.precision not in STORED_ONLY
        and row.budget.weights < case.budget.weights
        and row.budget.kv_cache >= kv_bytes(case.shape, context, wishes.kv_cache_dtype)
    ]
    ways = [f"a smaller precision: {' or '.join(smaller)}"] if smaller else []
    if longest >= TOKENS_PER_BLOCK:
        ways.append(f"engine.max_model_len of at most {longest:,}")
    if wishes.kv_cache_dtype == "auto" and _fits_in_fp8(case, context):
        ways.append("a KV cache in fp8")
    return f"Choose {', or '.join([*ways, 'a smaller model, or a GPU with more memory'])}."


def _fits_in_fp8(case: _Case, context: int) -> bool:
    has_fp8 = supports_fp8_kv(case.gpu.compute_capability)
    return has_fp8 and case.budget.kv_cache >= kv_bytes(case.shape, context, "fp8")


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
