"""`lockgate-convert plan PATH --gpu GPU`: which precision to convert to."""

import argparse

import msgspec
from rich.table import Table

from convert.checks.offers import Offer, Offers, make_offers
from convert.commands.options import model_path
from convert.pipeline.plan import Options
from runtime.hardware.choice import choose_gpu
from runtime.planning.memory_account import Wishes
from runtime.terminal.console import Console
from runtime.terminal.numbers import whole_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate-convert plan`."""
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a GGUF file, a folder, or a name of the catalogue or of the hub",
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
    parser.add_argument(
        "--context",
        type=whole_number(1),
        metavar="TOKENS",
        help="length of a stream, prompt and answer",
    )
    parser.add_argument("--kv-cache", choices=("fp8",), help="type of the KV cache")
    parser.add_argument(
        "--max-batch-size", type=whole_number(1), metavar="N", help="streams at the same time"
    )
    parser.add_argument(
        "--release", choices=("1.2", "1.3"), default="1.2", help="of TensorRT-LLM (1.2)"
    )
    parser.add_argument(
        "--requantize", action="store_true", help="as in run, for what AWQ or GPTQ has packed"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Prints the table. Exit code 0 even if nothing fits: that is a result, not an error."""
    wishes = Wishes(
        context=arguments.context,
        max_batch_size=arguments.max_batch_size,
        kv_cache_dtype=arguments.kv_cache or "auto",
    )
    gpu = choose_gpu(arguments.gpu, arguments.gpu_index)
    options = Options(release=arguments.release, requantize=arguments.requantize)
    offers = make_offers(model_path(arguments.path), gpu, wishes, options)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(offers)).decode())
    else:
        _print(offers)
    return 0


def _print(offers: Offers) -> None:
    plan, console = offers.plan, Console(highlight=False)
    console.print(
        f"{plan.model}, {plan.num_params / 1e9:.2f} billion weights, on {plan.gpu.name}:"
        f" {_gb(plan.gpu.memory_bytes)}; streams of {plan.context:,} tokens\n"
    )
    console.print(_table(offers))
    for note in dict.fromkeys(filter(None, map(_note, offers.offers))):
        console.print(f"• {note}", soft_wrap=True)
    console.print(
        "Rates are ceilings in tokens/s, of one stream and of as many as fit; see docs/gpu.md."
    )


def _note(offer: Offer) -> str:
    """A remark on an offer: the reason of its refusal, or else the note on its support. The reason
    does not name the precision, so that two kinds of int4 may share one line."""
    if offer.refused or not offer.row.support.note:
        return offer.refused
    return f"{offer.precision}: {offer.row.support.note}"


def _table(offers: Offers) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("--precision", "folder", "on the GPU", "KV cache", "streams", "one", "all"):
        is_name = heading == "--precision"
        table.add_column(heading, justify="left" if is_name else "right", no_wrap=is_name)
    table.add_column("", no_wrap=True)
    for offer in offers.offers:
        row = offer.row
        one, batch = row.one_stream, row.largest_batch
        table.add_row(
            offer.precision,
            _gb(offer.num_bytes) if offer.num_bytes else "-",
            _gb(row.budget.weights),
            _gb(max(row.budget.kv_cache, 0)),
            str(row.num_streams),
            f"{one.tokens_per_second:,.0f}" if one else "-",
            f"{batch.tokens_per_second:,.0f}" if batch else "-",
            _verdict(offer),
        )
    return table


def _verdict(offer: Offer) -> str:
    if offer.refused:
        return "cannot be made"
    if not offer.row.support.can_run:
        return "does not run"
    return "runs" if offer.row.fits else "does not fit"


def _gb(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB"
