"""The planner: numbers made by hand, and promises that hold for every model and GPU."""

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import SetupError
from runtime.hardware.gpu_table import GPUS, GpuSpec, find_gpu
from runtime.planning.config_shape import shape_of_config
from runtime.planning.known_shapes import KNOWN_CONFIGS
from runtime.planning.memory_account import (
    TOKENS_PER_BLOCK,
    Wishes,
    kv_bytes,
    longest_fit,
    weight_bytes,
)
from runtime.planning.model_shape import ModelShape
from runtime.planning.planner import Plan, PrecisionPlan, fill, make_plan
from runtime.planning.precisions import PRECISIONS, PrecisionName, find_support, supports_fp8_kv
from runtime.planning.roofline import expected_speedup, roofline

GIB = 1 << 30
SHAPES = {name: shape_of_config(config, name) for name, config in KNOWN_CONFIGS.items()}
QWEN3_8B, RTX_4070 = SHAPES["qwen3-8b"], find_gpu("rtx-4070")

shapes = st.sampled_from(list(SHAPES.values()))
gpus = st.sampled_from(GPUS)
precisions = st.sampled_from(list(PRECISIONS))


def row(plan: Plan, precision: PrecisionName) -> PrecisionPlan:
    return next(row for row in plan.rows if row.precision == precision)


@st.composite
def wishes(draw: st.DrawFn, shape: ModelShape, gpu: GpuSpec) -> Wishes:
    has_fp8 = supports_fp8_kv(gpu.compute_capability)
    return Wishes(
        context=draw(st.none() | st.integers(1, shape.max_model_len)),
        max_batch_size=draw(st.none() | st.integers(1, 256)),
        max_num_tokens=draw(st.none() | st.integers(256, 16_384)),
        kv_cache_dtype=draw(st.sampled_from(["auto", "fp8"])) if has_fp8 else "auto",
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[ModelShape, GpuSpec, PrecisionName, Wishes]:
    shape, gpu = draw(shapes), draw(gpus)
    return shape, gpu, draw(precisions), draw(wishes(shape, gpu))


def planned(case: tuple[ModelShape, GpuSpec, PrecisionName, Wishes]) -> PrecisionPlan:
    shape, gpu, precision, wished = case
    return make_plan(shape, gpu, wished, precisions=(precision,)).rows[0]


def with_memory(gpu: GpuSpec, num_bytes: int) -> GpuSpec:
    return msgspec.structs.replace(gpu, memory_bytes=num_bytes)


# Qwen3-8B: 36 layers, hidden 4096, 32 and 8 heads of 128, feed-forward 12,288, vocabulary 151,936.
LINEAR = 36 * (4096 * 128 * (32 + 8 + 8 + 32) + 3 * 4096 * 12_288)
EMBEDDING = 151_936 * 4096
NORMS = 36 * (2 * 4096 + 2 * 128) + 4096


def test_an_rtx_4070_and_qwen3_8b_by_hand() -> None:
    plan = make_plan(QWEN3_8B, RTX_4070, Wishes(context=1024))
    assert row(plan, "bf16").budget.weights == 2 * (LINEAR + 2 * EMBEDDING + NORMS)
    assert row(plan, "fp8").budget.weights == LINEAR + 2 * (2 * EMBEDDING + NORMS)
    four_bits = LINEAR // 2 + LINEAR // 128 * 2 + 2 * (2 * EMBEDDING + NORMS)
    assert row(plan, "int4_awq").budget.weights == four_bits
    for precision, gigabytes in (("bf16", 16.4), ("fp8", 9.4), ("int4_awq", 6.1)):
        assert row(plan, precision).budget.weights / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_what_an_rtx_4070_cannot_do_is_said() -> None:
    plan = make_plan(QWEN3_8B, RTX_4070, Wishes(context=1024))
    bf16 = row(plan, "bf16")
    assert not bf16.fits
    assert bf16.one_stream is None
    assert bf16.budget.weights > RTX_4070.memory_bytes

    four_bits = row(plan, "int4_awq")
    assert four_bits.one_stream_at_start is not None
    read = LINEAR * (4 + 16 / 128) / 8 + 2 * (EMBEDDING + NORMS)
    ceiling = 504.2e9 / read
    assert four_bits.one_stream_at_start.tokens_per_second == pytest.approx(ceiling, rel=1e-3)
    assert 100 < ceiling < 110
    assert four_bits.one_stream_at_start.limited_by == "bandwidth"


def test_what_reaches_200_tokens_a_second_on_an_rtx_4070() -> None:
    plan = make_plan(QWEN3_8B, RTX_4070, Wishes(context=1024), target=200)
    four_bits = row(plan, "int4_awq")
    read = LINEAR * 0.515625 + 2 * (EMBEDDING + NORMS)
    kv = 1024 * 36 * 2 * 8 * 128 * 2
    assert next(n for n in range(1, 9) if n * 504.2e9 / (read + n * kv) >= 200) == 3
    assert four_bits.streams_for_target == 3
    assert four_bits.largest_batch is not None
    assert four_bits.largest_batch.tokens_per_second > 1000
    expected = (1 - 0.7**4) / (1 - 0.7) / (1 + 3 * 0.05)
    assert plan.speculation.speedup == pytest.approx(expected)
    assert four_bits.one_stream_at_start is not None
    assert four_bits.one_stream_at_start.tokens_per_second * expected > 200


def test_kv_bytes_of_a_token() -> None:
    assert kv_bytes(QWEN3_8B, 32, "auto") == 32 * 147_456
    assert kv_bytes(QWEN3_8B, 33, "auto") == 64 * 147_456
    assert kv_bytes(QWEN3_8B, 32, "fp8") == 32 * 147_456 // 2


def test_layers_with_a_window_keep_no_more_than_it() -> None:
    gemma = SHAPES["gemma-2-9b"]  # 42 layers, every other one with 4096 tokens; 8 heads of 256
    layer = 2 * 8 * 256 * 2
    assert kv_bytes(gemma, 4096, "auto") == 42 * 4096 * layer
    assert kv_bytes(gemma, 8192, "auto") == 21 * (4096 + 8192) * layer


def test_a_large_batch_is_limited_by_arithmetic() -> None:
    l40 = find_gpu("l40")
    found = roofline(QWEN3_8B, l40, PRECISIONS["int4_awq"], num_streams=1024, context=1)
    assert found.limited_by == "compute"
    attention = 4 * 32 * 128 * 36
    per_token = 2 * (LINEAR + EMBEDDING) + attention
    assert found.tokens_per_second == pytest.approx(181e12 / per_token, rel=1e-6)


def test_a_mixture_reads_more_experts_for_more_streams() -> None:
    mixtral, h100 = SHAPES["mixtral-8x7b"], find_gpu("h100")
    one, many = (
        roofline(mixtral, h100, PRECISIONS["fp8"], num_streams=n, context=1) for n in (1, 64)
    )
    experts = 32 * 8 * 3 * 4096 * 14_336
    rest = 32 * 4096 * 128 * 80 + 2 * 32_000 * 4096 + 2 * (32 * (2 * 4096 + 8 * 4096) + 4096)
    kv = 32 * 2 * 8 * 128 * 2
    assert one.tokens_per_second == pytest.approx(3350e9 / (rest + experts / 4 + kv), rel=1e-3)
    everything = rest + experts + 64 * kv
    assert many.tokens_per_second == pytest.approx(64 * 3350e9 / everything, rel=1e-3)


@settings(deadline=None)
@given(cases())
def test_never_more_than_the_memory(
    case: tuple[ModelShape, GpuSpec, PrecisionName, Wishes],
) -> None:
    shape, gpu, _, wished = case
    found = planned(case)
    budget = found.budget
    parts = budget.weights + budget.runtime + budget.activations + budget.reserve
    assert parts + budget.kv_cache == gpu.memory_bytes
    assert min(budget.weights, budget.runtime, budget.activations, budget.reserve) > 0
    assert found.fits == (found.num_streams > 0)
    assert found.num_streams * found.kv_bytes_per_stream <= max(budget.kv_cache, 0)
    assert found.num_streams <= wished.batch_size
    assert found.max_kv_tokens * found.kv_bytes_per_token <= max(budget.kv_cache, 0) or any(
        shape.windows
    )
    assert (found.one_stream is None) == (not found.fits)


@settings(deadline=None)
@given(cases(), st.integers(0, 40 * GIB))
def test_more_memory_never_holds_less(
    case: tuple[ModelShape, GpuSpec, PrecisionName, Wishes], extra: int
) -> None:
    shape, gpu, precision, wished = case
    less, more = (
        planned(case),
        planned((shape, with_memory(gpu, gpu.memory_bytes + extra), precision, wished)),
    )
    assert more.num_streams >= less.num_streams
    assert more.max_kv_tokens >= less.max_kv_tokens


@settings(deadline=None)
@given(cases(), st.data())
def test_longer_streams_are_fewer_and_slower(
    case: tuple[ModelShape, GpuSpec, PrecisionName, Wishes], data: st.DataObject
) -> None:
    shape, gpu, precision, wished = case
    short = data.draw(st.integers(1, shape.max_model_len))
    long = data.draw(st.integers(short, shape.max_model_len))
    left, right = (
        planned((shape, gpu, precision, msgspec.structs.replace(wished, context=context)))
        for context in (short, long)
    )
    assert left.num_streams >= right.num_streams
    if left.one_stream and right.one_stream:
        assert left.one_stream.tokens_per_second >= right.one_stream.tokens_per_second
        assert left.one_stream_at_start == right.one_stream_at_start


@settings(deadline=None)
@given(shapes, gpus, precisions, st.integers(1, 255), st.integers(1, 8192))
def test_a_larger_batch_is_never_slower_in_total(
    shape: ModelShape, gpu: GpuSpec, precision: PrecisionName, batch: int, context: int
) -> None:
    small, large = (
        roofline(shape, gpu, PRECISIONS[precision], num_streams=size, context=context)
        for size in (batch, batch + 1)
    )
    assert large.tokens_per_second >= small.tokens_per_second * (1 - 1e-12)
    assert large.tokens_per_second / large.num_streams <= (
        small.tokens_per_second / small.num_streams
    ) * (1 + 1e-12)


@settings(deadline=None)
@given(cases())
def test_an_fp8_cache_holds_at_least_as_much(
    case: tuple[ModelShape, GpuSpec, PrecisionName, Wishes],
) -> None:
    shape, gpu, precision, wished = case
    wide, narrow = (
        planned((shape, gpu, precision, msgspec.structs.replace(wished, kv_cache_dtype=dtype)))
        for dtype in ("auto", "fp8")
    )
    assert narrow.max_kv_tokens >= wide.max_kv_tokens
    assert narrow.num_streams >= wide.num_streams
    assert narrow.kv_bytes_per_token * 2 == wide.kv_bytes_per_token


@settings(deadline=None)
@given(cases(), st.floats(1, 20_000))
def test_the_smallest_batch_for_a_target_is_the_smallest(
    case: tuple[ModelShape, GpuSpec, PrecisionName, Wishes], target: float
) -> None:
    shape, gpu, precision, wished = case
    plan = make_plan(shape, gpu, wished, precisions=(precision,), target=target)
    found = plan.rows[0]

    def rate(batch: int) -> float:
        return roofline(
            shape,
            gpu,
            PRECISIONS[precision],
            num_streams=batch,
            context=plan.context,
            kv_cache_dtype=wished.kv_cache_dtype,
        ).tokens_per_second

    if found.streams_for_target is None:
        assert not found.fits or rate(found.num_streams) < target
    else:
        assert rate(found.streams_for_target) >= target
        assert found.streams_for_target == 1 or rate(found.streams_for_target - 1) < target


@given(shapes, st.integers(0, 80 * GIB), st.integers(1, 200_000), st.sampled_from(["auto", "fp8"]))
def test_the_longest_sequence_fits_and_a_longer_one_does_not(
    shape: ModelShape, num_bytes: int, most: int, dtype: str
) -> None:
    length = longest_fit(shape, num_bytes, most, dtype)
    assert 0 <= length <= most
    assert not length or kv_bytes(shape, length, dtype) <= num_bytes
    assert length == most or kv_bytes(shape, length + 1, dtype) > num_bytes


@settings(deadline=None)
@given(cases())
def test_settings_that_are_filled_in_fit_or_are_refused(
    case: tuple[ModelShape, GpuSpec, PrecisionName, Wishes],
) -> None:
    shape, gpu, precision, wished = case
    can_run = find_support(PRECISIONS[precision], shape, gpu.compute_capability).can_run
    least = msgspec.structs.replace(wished, context=wished.context or 1)
    if not can_run or planned((shape, gpu, precision, least)).budget.kv_cache < kv_bytes(
        shape, wished.context or 1, wished.kv_cache_dtype
    ):
        with pytest.raises(SetupError, match="cannot fit" if can_run else "cannot run"):
            fill(shape, gpu, precision, wished)
        return
    found = fill(shape, gpu, precision, wished)
    budget = found.budget
    assert kv_bytes(shape, found.max_seq_len, wished.kv_cache_dtype) <= budget.kv_cache
    assert found.max_seq_len == (wished.context or found.max_seq_len) <= shape.max_model_len
    assert found.max_batch_size == (wished.max_batch_size or found.max_batch_size) >= 1
    assert found.max_kv_tokens >= found.max_seq_len
    assert 0 < found.free_gpu_memory_fraction < 1
    free = budget.memory - budget.weights - budget.runtime - budget.activations
    assert free * found.free_gpu_memory_fraction <= budget.kv_cache * (1 + 1e-9)
    assert len(found.max_attention_window) in (0, shape.num_layers)
    assert all(0 < window <= found.max_seq_len for window in found.max_attention_window)


@settings(deadline=None)
@given(shapes, gpus, precisions, st.integers(0, 40 * GIB))
def test_more_memory_never_makes_smaller_settings(
    shape: ModelShape, gpu: GpuSpec, precision: PrecisionName, extra: int
) -> None:
    try:
        less = fill(shape, gpu, precision)
    except SetupError:
        return
    more = fill(shape, with_memory(gpu, gpu.memory_bytes + extra), precision)
    assert more.max_seq_len >= less.max_seq_len
    assert more.max_batch_size >= less.max_batch_size


def test_what_does_not_fit_is_refused_with_numbers_and_a_way_out() -> None:
    with pytest.raises(SetupError) as caught:
        fill(QWEN3_8B, RTX_4070, "bf16", Wishes(context=8192))
    assert str(caught.value) == (
        "qwen3-8b in bf16 cannot fit on rtx-4070: of 12.9 GB, the weights take 16.4 GB, the runtime"
        " 1.1 GB, activations 0.3 GB and the reserve 0.6 GB. That leaves -5.5 GB for the KV cache,"
        " and a sequence of 8,192 tokens needs 1.2 GB. Choose a smaller precision: fp8 (9.4 GB of"
        " weights) or int8 (9.4 GB of weights) or int4_awq (6.1 GB of weights), or a smaller model,"
        " or a GPU with more memory."
    )


def test_advice_names_only_what_would_help() -> None:
    with pytest.raises(SetupError) as caught:
        fill(QWEN3_8B, RTX_4070, "fp8", Wishes(context=16_384))
    text = str(caught.value)
    assert "fp8 (" not in text
    assert "int4_awq (" in text
    named = re.search(r"engine\.max_model_len of at most ([\d,]*\d)", text)
    assert named is not None
    length = int(named[1].replace(",", ""))
    assert fill(QWEN3_8B, RTX_4070, "fp8", Wishes(context=length)).max_seq_len == length
    with pytest.raises(SetupError):
        fill(QWEN3_8B, RTX_4070, "fp8", Wishes(context=length + TOKENS_PER_BLOCK))
    assert "a KV cache in fp8" in text
    assert fill(QWEN3_8B, RTX_4070, "fp8", Wishes(context=16_384, kv_cache_dtype="fp8"))


def test_the_size_on_the_disk_counts_where_it_is_known() -> None:
    theory = weight_bytes(QWEN3_8B, PRECISIONS["int4_awq"])
    real = theory + 200_000_000
    without, with_size = (
        fill(QWEN3_8B, RTX_4070, "int4_awq", weights=weights) for weights in (None, real)
    )
    assert with_size.budget.weights == real
    assert with_size.max_seq_len < without.max_seq_len
    plan = make_plan(QWEN3_8B, RTX_4070, stored=("int4_awq", real))
    assert row(plan, "int4_awq").budget.weights == real
    assert row(plan, "fp8").budget.weights == weight_bytes(QWEN3_8B, PRECISIONS["fp8"])


def test_a_gpu_before_ampere_runs_nothing() -> None:
    turing = msgspec.structs.replace(RTX_4070, name="old", compute_capability=(7, 5))
    plan = make_plan(QWEN3_8B, turing)
    assert not any(row.support.can_run for row in plan.rows)
    with pytest.raises(SetupError, match=r"does not run on compute capability 7\.5"):
        fill(QWEN3_8B, turing, "bf16")
    with pytest.raises(SetupError, match="too old for a KV cache in FP8"):
        make_plan(QWEN3_8B, turing, Wishes(kv_cache_dtype="fp8"))


@pytest.mark.parametrize(
    ("wished", "reason"),
    [
        (Wishes(context=50_000), "has a context of 40,960 tokens, and 50,000 were asked for"),
        (Wishes(context=0), "context is 0"),
        (Wishes(max_batch_size=0), "max_batch_size is 0"),
        (Wishes(max_num_tokens=-1), "max_num_tokens is -1"),
    ],
)
def test_impossible_wishes(wished: Wishes, reason: str) -> None:
    for ask in (make_plan, lambda *args: fill(args[0], args[1], "int4_awq", args[2])):
        with pytest.raises(SetupError, match=reason):
            ask(QWEN3_8B, RTX_4070, wished)


def test_without_a_peak_rate_only_bandwidth_limits() -> None:
    unknown = msgspec.structs.replace(RTX_4070, fp16_flops=None, fp8_flops=None)
    found = roofline(QWEN3_8B, unknown, PRECISIONS["fp8"], num_streams=4096, context=1)
    assert found.limited_by == "bandwidth"


@given(st.floats(0, 1), st.integers(0, 10))
def test_speculation_without_cost_lies_between_one_and_all_tokens(
    acceptance: float, num_draft_tokens: int
) -> None:
    speedup = expected_speedup(acceptance, num_draft_tokens, 0.0)
    assert speedup * (1 + 1e-9) >= 1
    assert speedup <= (num_draft_tokens + 1) * (1 + 1e-9)
