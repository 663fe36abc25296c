"""A process that ends in the middle of storing, as by `kill -9` or without power for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.store.record import Query
from gateway.store.sqlite import open_sqlite

PROGRAM = """
import asyncio, sys
from pathlib import Path
from gateway.store.record import Record
from gateway.store.sqlite import open_sqlite
from gateway.store.store import Store

async def main(path, first):
    store = Store(lambda: open_sqlite(Path(path)))
    store.open()
    async def put(number):
        pair = [Record(kind=kind, id=str(number), owner="ann", created_at=1.0, body=b"x" * 500)
                for kind in ("thing", "part")]
        await store.put(*pair)
        print(number, flush=True)
    number = first
    while True:
        await asyncio.gather(*(put(each) for each in range(number, number + 50)))
        number += 50

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.posix("a signal that cannot be caught")
def test_what_was_acknowledged_is_there_and_pairs_are_whole(tmp_path: Path) -> None:
    path, acknowledged, first = tmp_path / "store.db", set[str](), 0
    for num_lines in (1, 77, 400):
        command = [sys.executable, "-c", PROGRAM, str(path), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(num_lines):
                acknowledged.add(process.stdout.readline().strip())
            process.kill()
            acknowledged |= {line.strip() for line in process.stdout if line.endswith("\n")}
        database = open_sqlite(path)
        things, parts = [
            {each.id for each in database.find(Query(kind=kind, owner="ann", limit=9999)).records}
            for kind in ("thing", "part")
        ]
        database.close()
        assert acknowledged <= things == parts
        first = max(map(int, things)) + 1
