"""The models on the disk: which there are, and what goes when one is removed."""

import os
import random
from pathlib import Path

import pytest

from runtime.errors import ModelNotFound, SetupError
from runtime.models.catalogue import CatalogueEntry
from runtime.models.repositories.pull import Wants
from runtime.models.repositories.removal import Removal
from runtime.models.sources import HubFile
from runtime.models.store import ModelStore
from runtime.models.stored import removal_of, remove_stored, stored_models
from tests.kit.hub.environment import hub_of
from tests.kit.hub.server import FakeHub
from tests.kit.platform import IS_WINDOWS

CONTENT = b"GGUF" + bytes(1000)
PARTS = [f"big/m-BF16-0000{part}-of-00002.gguf" for part in (1, 2)]
FILES = {
    "m-Q4_K_M.gguf": CONTENT,
    "m-Q8_0.gguf": CONTENT + b"8",
    "same-Q8_0.gguf": CONTENT + b"8",
    PARTS[0]: CONTENT + b"1",
    PARTS[1]: CONTENT + b"22",
    "plain.gguf": CONTENT + b"p",
}
FOLDER = {"config.json": b"{}", "model.safetensors": b"weights"}
ENTRY = CatalogueEntry(
    name="known",
    file="known.gguf",
    size=len(CONTENT),
    sha256="0" * 64,
    licence="mit",
    hub=HubFile(repo_id="a/b", revision="0" * 40, file="known.gguf"),
)

pytestmark = pytest.mark.skipif(IS_WINDOWS, reason="without links contents have no names")

hub = pytest.fixture(hub_of)


@pytest.fixture
def store(hub: FakeHub, tmp_path: Path) -> ModelStore:
    hub.add("u/r", dict(FILES))
    hub.add("u/folder", dict(FOLDER))
    return ModelStore(tmp_path / "models", catalogue=[ENTRY], wants=Wants())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names(store: ModelStore) -> set[str]:
    return {model.name for model in stored_models(store)}


def removed(store: ModelStore, name: str) -> Removal:
    removal = removal_of(store, name)
    remove_stored(store, removal)
    return removal


def pull_all(store: ModelStore) -> None:
    for file in FILES:
        if file != PARTS[1]:
            store.pull(f"u/r/{file}")
    store.pull("u/folder")


def fill_folder(store: ModelStore) -> None:
    store.folder.mkdir(exist_ok=True)
    (store.folder / "known.gguf").write_bytes(CONTENT)
    (store.folder / "own-Q5_0.gguf").write_bytes(CONTENT)
    (store.folder / "half.gguf.part").write_bytes(CONTENT)
    folder = store.folder / "checkpoint"
    folder.mkdir()
    for file, content in FOLDER.items():
        (folder / file).write_bytes(content)


def test_every_whole_model_is_listed_under_a_name_that_finds_it(store: ModelStore):
    pull_all(store)
    fill_folder(store)
    found = stored_models(store)
    assert {model.name for model in found} == {
        *("u/r:Q4_K_M", "u/r/m-Q8_0.gguf", "u/r/same-Q8_0.gguf", "u/r:BF16", "u/r/plain.gguf"),
        *("u/folder", "known", str(store.folder / "own-Q5_0.gguf")),
        str(store.folder / "checkpoint"),
    }
    for model in found:
        assert str(store.find(model.name).path) == model.path
    sizes = {model.name: (model.size, model.quantisation) for model in found}
    assert sizes["u/r:BF16"] == (2 * len(CONTENT) + 3, "BF16")
    assert sizes["known"] == (len(CONTENT), "")


def test_the_last_used_comes_first(store: ModelStore):
    store.pull("u/r:Q4_K_M")
    store.pull("u/r/plain.gguf")
    for seconds, name in enumerate(("u/r/plain.gguf", "u/r:Q4_K_M")):
        os.utime(store.find(name).path, (seconds, seconds))
    assert [model.name for model in stored_models(store)] == ["u/r:Q4_K_M", "u/r/plain.gguf"]


def test_part_of_a_model_is_not_listed(store: ModelStore, cache: Path):
    store.pull("u/r:BF16")
    next(cache.rglob("*00002-of-00002.gguf")).unlink()
    assert names(store) == set()


@pytest.mark.parametrize(
    ("name", "lost", "size"),
    [
        ("u/r:Q4_K_M", {"u/r:Q4_K_M"}, len(CONTENT)),
        ("u/r:bf16", {"u/r:BF16"}, 2 * len(CONTENT) + 3),
        ("hf.co/u/r/plain.gguf", {"u/r/plain.gguf"}, len(CONTENT) + 1),
        ("u/folder", {"u/folder"}, None),
        ("known", {"known"}, len(CONTENT)),
    ],
)
def test_one_goes_and_the_others_stay(
    store: ModelStore, cache: Path, name: str, lost: set[str], size: int | None
):
    pull_all(store)
    fill_folder(store)
    before = names(store)
    removal = removed(store, name)
    assert names(store) == before - lost
    assert size in (None, removal.num_bytes)
    assert all(path.exists() for path in cache.rglob("*.gguf"))
    with pytest.raises(ModelNotFound):
        removal_of(store, name)


def test_contents_with_two_names_stay_with_the_other(store: ModelStore):
    pull_all(store)
    first = removed(store, "u/r/m-Q8_0.gguf")
    assert first.num_bytes == 0
    assert store.find("u/r/same-Q8_0.gguf").path.read_bytes() == CONTENT + b"8"
    assert removed(store, "u/r/same-Q8_0.gguf").num_bytes == len(CONTENT) + 1


def test_the_last_name_of_a_repository_takes_all_of_it(store: ModelStore, cache: Path):
    store.pull("u/r:Q4_K_M")
    blobs = cache / "models--u--r/blobs"
    (blobs / f"{'a' * 64}.incomplete").write_bytes(b"GGUF broken off")
    assert removed(store, "u/r:Q4_K_M").num_bytes == len(CONTENT) + 15
    assert not (cache / "models--u--r").exists()


def test_a_repository_goes_with_all_its_commits(hub: FakeHub, store: ModelStore, cache: Path):
    store.pull("u/r:Q4_K_M")
    hub.repositories["u/r"].replace_files({"m-Q4_K_M.gguf": CONTENT + b"new"})
    store.pull("u/r:Q4_K_M")
    assert removed(store, "u/r").num_bytes == 2 * len(CONTENT) + 3
    assert list(cache.glob("models--*")) == []


def test_a_beginning_alone_can_be_removed(store: ModelStore, cache: Path):
    blobs = cache / "models--u--r/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{'a' * 64}.incomplete").write_bytes(b"GGUF broken off")
    assert removed(store, "u/r").num_bytes == 15
    assert not blobs.exists()


def test_contents_that_repositories_share_go_with_the_last(store: ModelStore, cache: Path):
    """As the hub's own library keeps them: blobs are links to contents beside the repositories."""
    store.pull("u/r:Q4_K_M")
    blob = next((cache / "models--u--r/blobs").iterdir())
    shared = cache / "blobs/ab/abc"
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    other = cache / "models--v--s/blobs" / blob.name
    other.parent.mkdir(parents=True)
    for link in (blob, other):
        link.symlink_to(os.path.relpath(shared, link.parent))
    assert removed(store, "u/r").num_bytes == 0
    assert shared.exists()
    assert removed(store, "v/s").num_bytes == len(CONTENT)
    assert not shared.exists()


@pytest.mark.parametrize("name", ["u/none", "u/r:Q2_K", "u/r/none.gguf", "known", "none.gguf"])
def test_what_is_not_there_is_said(store: ModelStore, name: str):
    store.pull("u/r:Q4_K_M")
    with pytest.raises(ModelNotFound):
        removal_of(store, name)


def test_nothing_outside_is_deleted(store: ModelStore, cache: Path, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    precious = outside / "m-Q6_K.gguf"
    precious.write_bytes(CONTENT)
    fill_folder(store)
    store.pull("u/r:Q4_K_M")
    snapshot = store.find("u/r:Q4_K_M").path.parent
    (snapshot / "m-Q6_K.gguf").symlink_to(precious)
    (store.folder / "link.gguf").symlink_to(precious)
    (store.folder / "dir").symlink_to(outside)
    (cache / "models--x--y").symlink_to(outside)
    with pytest.raises(SetupError, match="leads out of"):
        removal_of(store, "x/y")
    for path in (
        precious,
        store.folder / "dir/m-Q6_K.gguf",
        store.folder / "../outside/m-Q6_K.gguf",
    ):
        with pytest.raises(SetupError, match="delete it yourself"):
            removal_of(store, str(path))
    assert removed(store, "u/r:Q6_K").num_bytes == 0
    removed(store, str(store.folder / "link.gguf"))
    assert not (store.folder / "link.gguf").is_symlink()
    assert precious.read_bytes() == CONTENT


def test_what_is_being_pulled_is_not_removed(store: ModelStore, cache: Path):
    store.pull("u/r:Q4_K_M")
    oid = next((cache / "models--u--r/blobs").iterdir()).name
    removal = removal_of(store, "u/r")
    with (
        store.repositories.cache.lock("u/r", oid, lambda: None),
        pytest.raises(SetupError, match="is being pulled"),
    ):
        remove_stored(store, removal)
    assert store.find("u/r:Q4_K_M").is_present


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_removals_frees_everything(store: ModelStore, cache: Path, seed: int):
    pull_all(store)
    total = sum({content: len(content) for content in FILES.values()}.values())
    total += sum(map(len, FOLDER.values()))
    order = sorted(names(store))
    random.Random(seed).shuffle(order)
    freed = 0
    for name in order:
        count = len(names(store))
        freed += removed(store, name).num_bytes
        assert len(names(store)) == count - 1
    assert names(store) == set()
    assert freed == total
    assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
