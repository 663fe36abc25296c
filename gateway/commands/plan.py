"""`lockgate plan`: which precisions of a model fit on a GPU, and upper bounds of their speed."""

import argparse

import msgspec
from msgspec import Struct
from rich.table import Table

from gateway.commands.models_on_disk import open_store
from gateway.commands.options import add_settings_options, settings_of
from runtime.hardware.choice import choose_gpu
from runtime.hardware.gpu_table import GpuSpec
from runtime.planning.memory_account import Wishes
from runtime.planning.model_shape import ModelShape
from runtime.planning.plan_source import PlannedModel, find_planned_model
from runtime.planning.planner import Plan, PrecisionPlan, make_plan
from runtime.planning.precisions import PRECISIONS, STORED_ONLY, PrecisionName
from runtime.terminal.console import Console
from runtime.terminal.numbers import number, whole_number


class Answer(Struct, frozen=True):
    """The output of `--json`: the plan, and its conclusions as sentences."""

    plan: Plan
    findings: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate plan`."""
    parser.add_argument(
        "--model",
        required=True,
        help="a well-known name such as qwen3-8b, a Hugging Face folder, a .gguf file, or a name of"
        " the catalogue",
    )
    parser.add_argument(
        "--gpu", default="auto", help="a GPU such as rtx-4070; auto is the one in this machine"
    )
    parser.add_argument(
        "--gpu-index",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="which GPU auto is, as in nvidia-smi",
    )
    parser.add_argument("--precision", choices=list(PRECISIONS), help="only this precision")
    parser.add_argument(
        "--context",
        type=whole_number(1),
        metavar="TOKENS",
        help="length of a stream, prompt and answer",
    )
    parser.add_argument(
        "--kv-cache", choices=["auto", "fp8"], default="auto", help="auto has 16 bits"
    )
    parser.add_argument(
        "--max-batch-size", type=whole_number(1), metavar="N", help="streams at the same time"
    )
    parser.add_argument(
        "--target",
        type=number(1e-3, 1e9),
        default=200.0,
        metavar="TOKENS/S",
        help="tokens a second, of all streams together, to find the batch for (default: 200)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the plan. Exit code 0 even if nothing fits: that is a result, not an error."""
    store = open_store(settings_of(arguments))
    model = find_planned_model(arguments.model, store)
    answer = _answer(model, choose_gpu(arguments.gpu, arguments.gpu_index), arguments)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
    else:
        _print(answer)
    return 0


def _answer(model: PlannedModel, gpu: GpuSpec, arguments: argparse.Namespace) -> Answer:
    wishes = Wishes(
        context=arguments.context,
        max_batch_size=arguments.max_batch_size,
        kv_cache_dtype=arguments.kv_cache,
    )
    only: PrecisionName | None = arguments.precision
    stored = _stored(model)
    plan = make_plan(
        model.shape,
        gpu,
        wishes,
        precisions=(only,) if only else _precisions(stored),
        stored=stored,
        target=arguments.target,
    )
    return Answer(plan, tuple(findings(plan, model)))


def _precisions(stored: tuple[PrecisionName, int] | None) -> tuple[PrecisionName, ...]:
    """Those that a checkpoint can be made in, and the one that is there."""
    there = None if stored is None else stored[0]
    return tuple(name for name in PRECISIONS if name not in STORED_ONLY or name == there)


def _stored(model: PlannedModel) -> tuple[PrecisionName, int] | None:
    if model.stored is None or model.stored.precision is None:
        return None
    return model.stored.precision, model.stored.num_bytes


def findings(plan: Plan, model: PlannedModel) -> list[str]:
    """The conclusions from the numbers of a plan, as sentences."""
    sentences = [_stored_finding(model)] if model.stored is not None else []
    sentences += _window_findings(model.shape)
    sentences += [finding for row in plan.rows if (finding := _fit_finding(plan, row))]
    can_run = [row for row in plan.rows if row.fits and row.support.can_run]
    if can_run:
        sentences += _rate_findings(plan, max(can_run, key=_rate_of_one))
    else:
        sentences.append(
            f"Nothing that TensorRT-LLM runs on {plan.gpu.name} fits with one stream of"
            f" {plan.context:,} tokens."
        )
    return sentences


def _rate_of_one(row: PrecisionPlan) -> float:
    assert row.one_stream is not None, "it fits"
    return row.one_stream.tokens_per_second


def _stored_finding(model: PlannedModel) -> str:
    stored = model.stored
    assert stored is not None, "asked for"
    size = _gb(stored.num_bytes)
    if stored.precision is not None:
        return f"The checkpoint on the disk is {stored.precision}, {size}."
    if stored.format == "gguf":
        return (
            f"The GGUF file holds {size} of weights for llama.cpp; TensorRT-LLM needs a checkpoint"
            " of its own, in one of these precisions."
        )
    return (
        f"The checkpoint on the disk ({stored.format}, {size}) is in a format that TensorRT-LLM 1.2"
        " does not recognise or that is not planned here; it needs one of these precisions."
    )


def _fit_finding(plan: Plan, row: PrecisionPlan) -> str:
    """Why a precision does not fit or does not run, or may not; empty if nothing is known."""
    budget = row.budget
    if budget.weights > budget.memory:
        return (
            f"{row.precision} does not fit: the weights alone are {_gb(budget.weights)}, the"
            f" memory is {_gb(budget.memory)}."
        )
    if not row.fits:
        return (
            f"{row.precision} does not fit with a stream of {plan.context:,} tokens: beside"
            f" {_gb(budget.weights)} of weights, {_gb(max(budget.kv_cache, 0))} are left for a"
            f" KV cache that needs {_gb(row.kv_bytes_per_stream)}."
        )
    if not row.support.can_run:
        return f"{row.precision} does not run: {row.support.note}."
    return f"{row.precision} with a reservation: {row.support.note}." if row.support.note else ""


def _rate_findings(plan: Plan, best: PrecisionPlan) -> list[str]:
    start, end, batch = best.one_stream_at_start, best.one_stream, best.largest_batch
    assert start is not None, "it fits"
    assert end is not None, "it fits"
    assert batch is not None, "it fits"
    speculation = plan.speculation
    return [
        f"One stream gets at most {start.tokens_per_second:.0f} tokens/s in {best.precision} at its"
        f" first token and {end.tokens_per_second:.0f} at {plan.context:,} tokens, without"
        f" speculation: each token takes all weights and the KV cache through"
        f" {plan.gpu.bandwidth / 1e9:,.0f} GB/s.",
        _target_finding(plan, best),
        f"The largest batch {_batch_limit(plan, best)} is {batch.num_streams} streams of"
        f" {plan.context:,} tokens,"
        f" at most {batch.tokens_per_second:,.0f} tokens/s together, limited by"
        f" {batch.limited_by}.",
        f"With speculation one stream may expect {speculation.speedup:.1f} times as much, about"
        f" {start.tokens_per_second * speculation.speedup:.0f} tokens/s at best, if"
        f" {speculation.acceptance_rate:.0%} of {speculation.num_draft_tokens} drafted tokens are"
        f" right and each costs {speculation.draft_cost:.0%} of a step: assumptions, which depend"
        " on the text.",
    ]


def _batch_limit(plan: Plan, row: PrecisionPlan) -> str:
    return "that fits" if row.num_streams < plan.max_batch_size else "that --max-batch-size allows"


def _window_findings(shape: ModelShape) -> list[str]:
    windows = [window for window in shape.windows if window]
    if not windows:
        return []
    return [
        f"{len(windows)} of {shape.num_layers} layers keep {windows[0]:,} tokens of a stream and no"
        " more, if the engine is told so (kv_cache_config.max_attention_window); otherwise fewer"
        " streams fit."
    ]


def _target_finding(plan: Plan, best: PrecisionPlan) -> str:
    wanted = f"{plan.target:,.0f} tokens/s in total"
    if best.streams_for_target is None:
        return f"{wanted} are out of reach in {best.precision} without speculation."
    streams = best.streams_for_target
    noun = "stream" if streams == 1 else "streams"
    return (
        f"{wanted} take at least {streams} {noun} of {plan.context:,} tokens in {best.precision}."
    )


def _print(answer: Answer) -> None:
    plan, console = answer.plan, Console(highlight=False)
    major, minor = plan.gpu.compute_capability
    console.print(
        f"[bold]{plan.model}[/bold], {plan.num_params / 1e9:.2f} billion weights, on"
        f" [bold]{plan.gpu.name}[/bold]: {_gb(plan.gpu.memory_bytes)},"
        f" {plan.gpu.bandwidth / 1e9:,.0f} GB/s, compute {major}.{minor}\n"
    )
    console.print(_table(plan))
    console.print(
        f"\nRates are ceilings in tokens/s at {plan.context:,} tokens a stream, no forecast;"
        f" batch: at most {plan.max_batch_size} streams. The memory of the runtime"
        f" ({_gb(plan.rows[0].budget.runtime)}) is an assumption. See docs/gpu.md.\n"
    )
    for finding in answer.findings:
        console.print(f"• {finding}")


def _table(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("precision", "weights", "KV cache", "tokens", "streams", "one", "batch"):
        table.add_column(heading, justify="left" if heading == "precision" else "right")
    table.add_column("TensorRT-LLM")
    for row in plan.rows:
        one, batch = row.one_stream, row.largest_batch
        table.add_row(
            row.precision,
            _gb(row.budget.weights),
            _gb(max(row.budget.kv_cache, 0)),
            f"{row.max_kv_tokens:,}",
            str(row.num_streams),
            f"{one.tokens_per_second:,.0f}" if one else "-",
            f"{batch.tokens_per_second:,.0f}" if batch else "-",
            _verdict(row),
        )
    return table


def _verdict(row: PrecisionPlan) -> str:
    if not row.support.can_run:
        return "[red]does not run[/red]"
    if not row.fits:
        return "[red]does not fit[/red]"
    return "[yellow]see below[/yellow]" if row.support.note else "[green]runs[/green]"


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
