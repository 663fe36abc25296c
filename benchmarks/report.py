"""Rows of numbers as a table for people and as a file for programs."""

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results"


def report(title: str, rows: list[dict[str, Any]], file: Path | None) -> None:
    """Print the rows, whose keys are the columns, and write them to `file` if there is one."""
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{value:.3g}" for value in row.values()))
    Console().print(table)
    if file is not None:
        file.write_text(json.dumps(rows, indent=2))


def write_json(name: str, document: dict[str, Any]) -> Path:
    """Write to benchmarks/results, with the time in the file's name; says where on stdout."""
    file = RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document, indent=1))
    print(f"written: {file}")
    return file
