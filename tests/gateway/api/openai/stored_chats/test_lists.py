"""Lists are what was stored and is not deleted: by a model of them, and step by step."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from gateway.api.openai.stored_chats import lists
from gateway.api.openai.stored_chats.protocol import Listed
from gateway.api.openai.stored_chats.queries import ChatsQuery
from gateway.api.openai.stored_chats.records import KINDS, LABELS, Keeper
from gateway.generation.writer import Head
from gateway.store.database import Database
from gateway.store.sqlite import open_sqlite
from gateway.store.store import Store
from runtime.errors import InvalidRequest


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(lambda: open_sqlite(tmp_path / "store.db"))
    store.open()
    yield store
    store.close()


def keep(store: Store, id: str, owner: str = "ann", model: str = "m", **labels: str) -> None:
    keeper = Keeper(store, owner, b'[{"role":"user","content":"hi"}]', labels)
    keeper.keep(Head(id, 1, model, None), b'{"id":"%b"}' % id.encode())


async def forget(store: Store, id: str) -> None:
    def delete(database: Database) -> None:
        for kind in KINDS:
            database.delete(kind, id, None)

    await store.write(delete)


def ids(page: Listed) -> list[str]:
    found = [msgspec.json.decode(each)["id"] for each in page.data if isinstance(each, Raw)]
    assert (page.first_id, page.last_id) == ((found[0], found[-1]) if found else (None, None))
    return found


async def all_pages(store: Store, reader: str | None, wanted: ChatsQuery) -> list[str]:
    found = list[str]()
    page = None
    while page is None or page.has_more:
        page = await lists.completions(store, reader, wanted)
        assert len(page.data) <= wanted.limit
        found += ids(page)
        assert page.data or not page.has_more
        wanted = msgspec.structs.replace(wanted, after=page.last_id or "")
    return found


OWNERS = st.sampled_from(["ann", "bob"])
MODELS = st.sampled_from(["m", "other"])
METADATA = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
STORED = st.lists(st.tuples(OWNERS, MODELS, METADATA, st.booleans()), max_size=30)
WANTED = st.builds(
    ChatsQuery,
    limit=st.integers(1, 12),
    order=st.sampled_from(["asc", "desc"]),
    model=st.just("") | MODELS,
    metadata=st.just({}) | METADATA,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(stored=STORED, reader=st.none() | OWNERS, wanted=WANTED, step=st.integers(1, 5))
def test_pages_together_are_what_is_stored(
    store: Store, stored: Any, reader: str | None, wanted: ChatsQuery, step: int
) -> None:
    async def run() -> list[str]:
        for number, (owner, model, metadata, _) in enumerate(stored):
            keep(store, f"chatcmpl-{number}", owner, model, **metadata)
        for number, (_, _, _, is_deleted) in enumerate(stored):
            if is_deleted:
                await forget(store, f"chatcmpl-{number}")
        found = await all_pages(store, reader, wanted)
        for number in range(len(stored)):
            await forget(store, f"chatcmpl-{number}")
        return found

    expected = [
        f"chatcmpl-{number}"
        for number, (owner, model, metadata, is_deleted) in enumerate(stored)
        if not is_deleted
        and reader in (None, owner)
        and wanted.model in ("", model)
        and metadata.items() >= wanted.metadata.items()
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "STEP", step)
        found = asyncio.run(run())
    assert found == (expected[::-1] if wanted.newest_first else expected)


@pytest.mark.anyio
async def test_a_search_is_not_disturbed_by_what_is_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if that is where it stands."""
    monkeypatch.setattr(lists, "STEP", 3)
    for number in range(12):
        keep(store, f"chatcmpl-{number}", a="x" if number in (0, 10) else "y")
    read = store.read
    deleted = iter([(1, 2), (3, 5, 4), (8,)])

    async def read_and_delete(question: Any) -> Any:
        answer = await read(question)
        for number in next(deleted, ()):
            await forget(store, f"chatcmpl-{number}")
        return answer

    monkeypatch.setattr(store, "read", read_and_delete)
    wanted = ChatsQuery(metadata={"a": "x"})
    found = ids(await lists.completions(store, "ann", wanted))
    assert found == ["chatcmpl-0", "chatcmpl-10"]
    assert next(deleted, None) is None


@pytest.mark.anyio
async def test_a_search_ends_and_says_where(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "STEP", 2)
    for number in range(10):
        keep(store, f"chatcmpl-{number}", a="x" if number in (1, 8) else "y")
    wanted = ChatsQuery(metadata={"a": "x"})

    first = await lists.completions(store, "ann", wanted, 4)
    assert (ids(first), first.has_more) == (["chatcmpl-1"], True)
    with pytest.raises(InvalidRequest, match="after=chatcmpl-5") as caught:
        await lists.completions(
            store, "ann", msgspec.structs.replace(wanted, after="chatcmpl-1"), 4
        )
    assert (caught.value.param, caught.value.code) == ("after", "search_too_long")
    last = await lists.completions(
        store, "ann", msgspec.structs.replace(wanted, after="chatcmpl-5"), 4
    )
    assert (ids(last), last.has_more) == (["chatcmpl-8"], False)


@pytest.mark.anyio
async def test_large_completions_make_short_pages(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "MAX_BYTES", 100)
    for number in range(10):
        keep(store, f"chatcmpl-{number}")
    page = await lists.completions(store, None, ChatsQuery())
    assert 1 < len(page.data) < 10
    assert page.has_more
    assert len(await all_pages(store, None, ChatsQuery())) == 10


@pytest.mark.anyio
async def test_what_a_sweep_has_half_removed_is_not_there(store: Store) -> None:
    for number in range(3):
        keep(store, f"chatcmpl-{number}")
    await store.delete(LABELS, "chatcmpl-0", None)
    await store.delete(KINDS[0], "chatcmpl-1", None)
    assert await all_pages(store, "ann", ChatsQuery(limit=1)) == ["chatcmpl-2"]
