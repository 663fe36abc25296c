"""Rows of numbers as a table for people and as a file for programs."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


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
