"""Databases as earlier versions have left them: made by the first of the numbered scripts alone.

A form that changes how rows are written gets an entry in `ROWS`; until the next one, all later
forms are filled in the same way.
"""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from gateway.store.migrations import Migration, migrations
from gateway.store.record import Record
from gateway.store.sqlite import MIGRATIONS

STEPS = migrations(MIGRATIONS)
RECORDS = [
    Record(
        kind=kind,
        id=f"{kind}-{number}",
        owner=owner,
        created_at=1000.5 + number,
        body=b'{"n": %d, "text": "%b"}' % (number, b"\xc3\xa4" * size),
        parent="" if number % 2 else f"p-{number}",
    )
    for number, (owner, size) in enumerate([("ann", 1), ("bob", 9000), ("ann", 0), ("\u00e9", 50)])
    for kind in ("response", "response.input", "conversation.item")
]


def write_records(connection: sqlite3.Connection, records: Sequence[Record]) -> None:
    """Writes them as form 1 does."""
    columns = Record.__struct_fields__
    marks = ", ".join("?" * len(columns))
    for record in records:
        connection.execute(
            f"INSERT INTO records ({', '.join(columns)}) VALUES ({marks})",
            [getattr(record, name) for name in columns],
        )


ROWS: dict[int, Callable[[sqlite3.Connection, Sequence[Record]], None]] = {1: write_records}


def database_of_form(path: Path, form: int, steps: Sequence[Migration] = STEPS) -> list[Record]:
    """Makes the file, and returns what is in it, in its order. Form 0 is a new file with nothing in
    it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for step in steps[:form]:
            connection.executescript(step.script)
        connection.execute(f"PRAGMA user_version = {form}")
        if form == 0:
            return []
        write = ROWS[max(each for each in ROWS if each <= form)]
        write(connection, RECORDS)
    return list(RECORDS)
