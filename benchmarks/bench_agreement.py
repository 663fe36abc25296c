"""What each precision costs in accuracy: the tokens of converted checkpoints beside the file's.

Converts the model to each precision and compares 512 positions of plain text with what llama.cpp
computes from the GGUF file as it is, and from the same weights in float32. Needs torch and
llama-cpp-python, and 9 bytes of disk for each weight.

`scripts/bench agreement [--model NAME_OR_PATH] [--positions N] [--precision P …]`.
"""

import argparse
import tempfile
from pathlib import Path

from agreement import (
    Agreement,
    Logits,
    checkpoint_logits,
    compare,
    llama_cpp_logits,
    plain_text,
    write_float_gguf,
)
from rich.console import Console
from rich.table import Table

from convert.pipeline import Options, convert
from convert.recipe import PRECISIONS, make_recipe
from runtime import ModelStore, SetupError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct")
    parser.add_argument("--positions", type=int, default=512)
    parser.add_argument("--precision", nargs="*", choices=PRECISIONS, default=list(PRECISIONS))
    arguments = parser.parse_args()
    path = ModelStore().find(arguments.model).path
    token_ids = plain_text(path, arguments.positions)
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        as_it_is = llama_cpp_logits(path, token_ids)
        write_float_gguf(path, Path(folder, "float32.gguf"))
        in_float = llama_cpp_logits(Path(folder, "float32.gguf"), token_ids)
        Path(folder, "float32.gguf").unlink()
        table = Table("checkpoint", "against float32 weights", "against the file", box=None)
        table.add_row("(the file itself)", _cell(compare(in_float, as_it_is)), "")
        for precision in arguments.precision:
            found = _checkpoint(path, Path(folder, precision), precision, token_ids)
            if isinstance(found, str):
                table.add_row(precision, found, "")
                continue
            cells = _cell(compare(in_float, found)), _cell(compare(as_it_is, found))
            table.add_row(precision, *cells)
    console.print(f"{arguments.model}, {len(token_ids)} positions: mean KL divergence, top-1")
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


def _cell(found: Agreement) -> str:
    return f"{found.kl:.5f}, {found.top1:.1%}"


if __name__ == "__main__":
    main()
