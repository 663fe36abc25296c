"""A process that ends in the middle of storing, as by `kill -9` or without power for it."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.settings.schema import StoreSettings
from gateway.store.opening import connect_of
from gateway.store.record import Query

PROGRAM = """
import asyncio, sys
from gateway.settings.schema import StoreSettings
from gateway.store.opening import store_of
from gateway.store.record import Record

async def main(setting, place, first):
    store = store_of(StoreSettings(**{setting: place}))
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

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture(params=["path", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A setting and its value."""
    if request.param == "path":
        return "path", str(tmp_path / "store.db")
    return "url", request.getfixturevalue("url")


@pytest.mark.posix("a signal that cannot be caught")
def test_what_was_acknowledged_is_there_and_pairs_are_whole(place: tuple[str, str]) -> None:
    acknowledged, first = set[str](), 0
    for num_lines in (1, 77, 400):
        command = [sys.executable, "-c", PROGRAM, *place, str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(num_lines):
                acknowledged.add(process.stdout.readline().strip())
            process.kill()
            acknowledged |= {line.strip() for line in process.stdout if line.endswith("\n")}
        things, parts = found(place)
        assert acknowledged <= things == parts
        first = max(map(int, things)) + 1


def found(place: tuple[str, str]) -> tuple[set[str], set[str]]:
    """The ids of both kinds, when what was in the midst of being stored is over."""
    database = connect_of(msgspec.convert(dict([place]), StoreSettings))()
    try:
        with database.transaction():
            things, parts = (
                {
                    each.id
                    for each in database.find(Query(kind=kind, owner="ann", limit=9999)).records
                }
                for kind in ("thing", "part")
            )
    finally:
        database.close()
    return things, parts
