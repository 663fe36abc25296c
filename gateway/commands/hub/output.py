"""How commands print: JSON, tables, sizes and times."""

import sys
import time
from typing import Any

import msgspec
from rich.table import Table

from runtime.terminal.console import Console

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def print_json(document: Any) -> None:
    """The document with indentation."""
    print(msgspec.json.format(msgspec.json.encode(document)).decode())


def print_table(table: Table) -> None:
    """The table; in a pipe no line is cut off or wrapped, so that it can be searched."""
    width = None if sys.stdout.isatty() else 4096
    Console(width=width, highlight=False).print(table, soft_wrap=width is not None)


def size_text(num_bytes: int) -> str:
    """Such as "491 MB" or "4.9 GB"."""
    if num_bytes < 100_000:
        return f"{num_bytes / 1e3:,.1f} kB"
    if num_bytes >= 1_000_000_000:
        return f"{num_bytes / 1e9:,.1f} GB"
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes < 10_000_000 else f"{num_bytes / 1e6:,.0f} MB"


def age_text(moment: float) -> str:
    """How long ago that was, such as "3 days ago"."""
    age = time.time() - moment
    for seconds, unit in _UNITS:
        count = int(age // seconds)
        if count > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
