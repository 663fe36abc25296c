"""What each precision costs in accuracy: the tokens of converted checkpoints beside the file's.

Converts the model to each precision and compares 512 positions of plain text with what llama.cpp
computes from the GGUF file as it is, and from the same weights in float32. Needs torch and
a llama.cpp library, and 9 bytes of disk for each weight.

`scripts/bench agreement [--model NAME_OR_PATH] [--positions N] [--text FILE] [--precision P …]`.
With `--folder F …` it compares folders that are there already, made of this model.
"""

import argparse
import tempfile
from pathlib import Path

from agreement import (
    LICENCE,
    Agreement,
    Logits,
    checkpoint_logits,
    compare,
    plain_text,
    text_logits,
    write_float_gguf,
)
from rich.console import Console
from rich.table import Table

from convert.pipeline.convert import convert
from convert.pipeline.plan import Options
from convert.target.recipe import PRECISIONS, make_recipe
from runtime.errors import SetupError
from runtime.models.store import ModelStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--positions", type=int, default=512)
    parser.add_argument("--precision", nargs="*", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--folder", nargs="+", type=Path, default=[])
    parser.add_argument("--text", type=Path, default=LICENCE)
    arguments = parser.parse_args()
    path = ModelStore().find(arguments.model).path
    token_ids = plain_text(path, arguments.positions, arguments.text)
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        as_it_is = text_logits(path, token_ids)
        write_float_gguf(path, Path(folder, "float32.gguf"))
        in_float = text_logits(Path(folder, "float32.gguf"), token_ids)
        Path(folder, "float32.gguf").unlink()
        table = Table("checkpoint", "against float32 weights", "against the file", box=None)
        table.add_row("(the file itself)", _cell(compare(in_float, as_it_is)), "")
        for there in arguments.folder:
            table.add_row(
                there.name, *_cells(in_float, as_it_is, checkpoint_logits(there, token_ids))
            )
        for precision in [] if arguments.folder else arguments.precision:
            found = _checkpoint(path, Path(folder, precision), precision, token_ids)
            cells = (found, "") if isinstance(found, str) else _cells(in_float, as_it_is, found)
            table.add_row(precision, *cells)
    where = f"{len(token_ids)} positions of {arguments.text.name}"
    console.print(f"{arguments.model}, {where}: mean KL divergence, top-1")
    console.print(table)


def _checkpoint(path: Path, target: Path, precision: str, token_ids: list[int]) -> Logits | str:
    """The logits, or why this model cannot have that precision."""
    try:
        convert(
            path, target, make_recipe(precision), Options(release="1.3"), lambda num_bytes: None
        )
    except SetupError as error:
        return str(error)
    return checkpoint_logits(target, token_ids)


def _cells(in_float: Logits, as_it_is: Logits, found: Logits) -> tuple[str, str]:
    return _cell(compare(in_float, found)), _cell(compare(as_it_is, found))


def _cell(found: Agreement) -> str:
    return f"{found.kl:.5f}, {found.top1:.1%}"


if __name__ == "__main__":
    main()
