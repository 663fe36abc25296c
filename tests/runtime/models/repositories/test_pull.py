"""Pulls from the hub: what arrives, what is asked, what stays when something breaks."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download, scan_cache_dir, snapshot_download

from runtime.errors import ModelFileError, ModelNotFound, PullError
from runtime.models.repositories.cache import published_sha256
from tests.kit.hub.contents import HubRepository
from tests.kit.hub.server import FakeHub, Fault
from tests.kit.hub.stores import OpenStore
from tests.kit.platform import IS_WINDOWS
from tests.kit.root import search_path
from tests.kit.serving import PATIENCE, wait_for

SMALL = b"GGUF small"
CONTENT = b"GGUF" + bytes(range(256)) * 1000
MODELS = {
    "m-Q4_K_M.gguf": CONTENT,
    "m-Q8_0.gguf": CONTENT + b"8",
    "big/m-BF16-00001-of-00002.gguf": CONTENT + b"1",
    "big/m-BF16-00002-of-00002.gguf": CONTENT + b"2",
    "mmproj-F16.gguf": SMALL,
    "README.md": b"A model",
}
FOLDER = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "original/consolidated.pth": b"pickle",
}


@pytest.fixture
def models(hub: FakeHub) -> HubRepository:
    return hub.add("u/r", dict(MODELS))


def parts_left(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache").rglob("*.incomplete")]


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("u/r", "m-Q4_K_M.gguf"),
        ("u/r:q8_0", "m-Q8_0.gguf"),
        ("hf.co/u/r:BF16", "big/m-BF16-00001-of-00002.gguf"),
        ("u/r/big/m-BF16-00001-of-00002.gguf", "big/m-BF16-00001-of-00002.gguf"),
        ("https://huggingface.co/u/r/blob/main/m-Q8_0.gguf", "m-Q8_0.gguf"),
    ],
)
def test_a_name_is_pulled_and_then_found_without_the_network(
    hub: FakeHub, store: OpenStore, name: str, file: str
):
    assert not store().find(name).is_present
    assert hub.requests == []
    path = store().pull(name)
    assert path.read_bytes() == MODELS[file]
    assert path.as_posix().endswith(f"/{file}")
    hub.requests.clear()
    for found in (store().find(name), store().look_up(name), store(is_offline=True).find(name)):
        assert (found.name, found.path, found.is_present) == (name, path, True)
    assert store(is_offline=True).pull(name) == path
    assert hub.requests == []


def test_the_endpoint_of_a_mirror_is_asked_and_may_stand_in_a_url(
    hub: FakeHub, store: OpenStore, models: HubRepository
):
    hub.next_links_to = "https://huggingface.co"
    path = store().pull(f"{hub.url}/u/r/resolve/main/m-Q8_0.gguf")
    assert path.read_bytes() == MODELS["m-Q8_0.gguf"]
    assert hub.paths().count(f"/api/models/u/r/tree/{models.commit}") > 1


def test_a_second_pull_checks_and_asks_no_file(
    hub: FakeHub, store: OpenStore, models: HubRepository
):
    path = store().pull("u/r")
    hub.requests.clear()
    assert store().pull("u/r") == path
    assert hub.downloads() == []
    path.resolve().write_bytes(b"GGUF" + bytes(len(CONTENT) - 4))
    assert store().pull("u/r").read_bytes() == CONTENT
    assert published_sha256(path) == hashlib.sha256(CONTENT).hexdigest()
    del models


def test_a_new_commit_is_pulled_and_equal_files_are_not(
    hub: FakeHub, store: OpenStore, models: HubRepository
):
    old = store().pull("u/r:Q8_0")
    store().pull("u/r:BF16")
    models.replace_files({**MODELS, "m-Q8_0.gguf": CONTENT + b"new"})
    assert store().find("u/r:Q8_0").path == old
    hub.requests.clear()
    new = store().pull("u/r:Q8_0")
    assert new.read_bytes() == CONTENT + b"new"
    assert store().find("u/r:Q8_0").path == new
    assert store().find("u/r:BF16").is_present
    store().pull("u/r:BF16")
    assert len(hub.downloads()) == 1


def test_a_branch_a_tag_and_a_commit_are_pulled(
    hub: FakeHub, store: OpenStore, models: HubRepository
):
    first = models.commit
    models.tags["v1"] = first
    models.replace_files({"m-Q8_0.gguf": CONTENT + b"new"})
    for revision, content in (("v1", b"8"), (first, b"8"), ("main", b"new")):
        name = f"hf.co/u/r/resolve/{revision}/m-Q8_0.gguf"
        assert store().pull(name).read_bytes() == CONTENT + content
        assert store().find(name).path.read_bytes() == CONTENT + content
    with pytest.raises(ModelNotFound, match="no branch or tag v2"):
        store().pull("hf.co/u/r/resolve/v2/m-Q8_0.gguf")
    del hub


def test_a_repository_without_main_has_its_first_branch(hub: FakeHub, store: OpenStore):
    hub.add("u/r", dict(MODELS), branch="master")
    assert store().pull("u/r").read_bytes() == CONTENT
    assert store().find("u/r").is_present


def test_a_renamed_repository_is_followed(hub: FakeHub, store: OpenStore):
    hub.add("new/name", dict(MODELS))
    hub.renamed["u/r"] = "new/name"
    assert store().pull("u/r").read_bytes() == CONTENT


@pytest.mark.parametrize("form", ["folder", "any"])
def test_a_checkpoint_folder_is_pulled(hub: FakeHub, store: OpenStore, form: str):
    hub.add("u/r", dict(FOLDER))
    assert store(form).look_up("u/r").is_folder
    path = store(form).pull("u/r")
    names = {"config.json", "model.safetensors", "tokenizer.json"}
    assert {file.name for file in path.iterdir()} == names
    found = store(form).find("u/r")
    assert (found.path, found.is_folder, found.is_present) == (path, True, True)
    snapshot = snapshot_download("u/r", local_files_only=True, cache_dir=os.environ["HF_HUB_CACHE"])
    assert Path(snapshot) == path


def test_a_folder_of_which_something_is_missing_is_not_there(hub: FakeHub, store: OpenStore):
    index = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    files = {
        "config.json": b"{}",
        "model-1.safetensors": b"1",
        "model-2.safetensors": b"2",
        "model.safetensors.index.json": index,
    }
    hub.add("u/r", files)
    path = store().pull("u/r")
    (path / "model-2.safetensors").unlink()
    assert not store().find("u/r").is_present
    hub.repositories["u/r"].files = {**files, "model.safetensors.index.json": index[:-20]}
    with pytest.raises(PullError, match="lacks files"):
        store().pull("u/r")


@pytest.mark.usefixtures("models")
def test_the_hubs_own_library_shares_the_cache(hub: FakeHub, store: OpenStore):
    cache = os.environ["HF_HUB_CACHE"]
    theirs = hf_hub_download("u/r", "m-Q8_0.gguf", endpoint=hub.url, cache_dir=cache)
    found = store().find("u/r:Q8_0")
    assert (found.path, found.is_present) == (Path(theirs), True)
    ours = store().pull("u/r")
    hub.requests.clear()
    again = hf_hub_download("u/r", "m-Q4_K_M.gguf", endpoint=hub.url, cache_dir=cache)
    assert (Path(again), hub.downloads()) == (ours, [])
    scanned = scan_cache_dir(cache)
    assert scanned.warnings == []
    assert [repository.nb_files for repository in scanned.repos] == [2]


@pytest.mark.usefixtures("models")
def test_the_hub_on_loopback_is_one_for_its_own_library(hub: FakeHub):
    """So that what is tested against it holds for the real one."""
    api = HfApi(endpoint=hub.url)
    listed = {entry.path: entry for entry in api.list_repo_tree("u/r", recursive=True)}
    assert listed["m-Q4_K_M.gguf"].lfs.sha256 == hashlib.sha256(CONTENT).hexdigest()  # type: ignore
    assert {*MODELS, "big"} == set(listed)
    assert api.list_repo_refs("u/r").branches[0].target_commit == hub.repositories["u/r"].commit
    assert [found.id for found in api.list_models(search="r", limit=5)] == ["u/r"]


@pytest.mark.usefixtures("models")
def test_a_broken_transfer_is_resumed(hub: FakeHub, store: OpenStore):
    hub.faults = [Fault("/store/", cut_at=100_000, times=2)]
    seen: list[int] = []
    store().pull("u/r", lambda done, total, label: seen.append(done))
    assert [asked.byte_range for asked in hub.downloads()] == [
        None,
        "bytes=100000-",
        "bytes=200000-",
    ]
    assert store().find("u/r").path.read_bytes() == CONTENT
    assert max(seen) == len(CONTENT)


@pytest.mark.usefixtures("models")
def test_a_server_without_ranges_sends_all_again(hub: FakeHub, store: OpenStore):
    hub.knows_ranges = False
    hub.faults = [Fault("/store/", cut_at=100_000)]
    assert store().pull("u/r").read_bytes() == CONTENT


@pytest.mark.usefixtures("models")
def test_a_transfer_that_never_gets_on_is_given_up_and_taken_up_later(
    hub: FakeHub, store: OpenStore, tmp_path: Path
):
    hub.faults = [Fault("/store/", cut_at=5_000), Fault("/store/", cut_at=0, times=100)]
    with pytest.raises(PullError, match="the connection broke off"):
        store().pull("u/r")
    assert not store().find("u/r").is_present
    assert len(parts_left(tmp_path)) == 1
    hub.faults, hub.requests = [], []
    store().pull("u/r")
    assert hub.downloads()[0].byte_range == "bytes=5000-"
    assert parts_left(tmp_path) == []


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("content", [CONTENT[:-1] + b"x", b"", b"<html>", CONTENT + b"more"])
def test_wrong_content_never_gets_a_name(
    hub: FakeHub, store: OpenStore, tmp_path: Path, content: bytes
):
    hub.faults = [Fault("/store/", content=content, times=100)]
    with pytest.raises(PullError):
        store().pull("u/r")
    assert not store().find("u/r").is_present
    assert not list((tmp_path / "cache").rglob("*.gguf"))
    blobs = tmp_path / "cache/models--u--r/blobs"
    assert all(path.name.endswith(".incomplete") for path in blobs.iterdir())
    hub.faults = []
    assert store().pull("u/r").read_bytes() == CONTENT


@pytest.mark.usefixtures("models")
def test_a_wrong_beginning_is_replaced(store: OpenStore, tmp_path: Path):
    blobs = tmp_path / "cache/models--u--r/blobs"
    blobs.mkdir(parents=True)
    oid = hashlib.sha256(CONTENT).hexdigest()
    (blobs / f"{oid}.incomplete").write_bytes(b"GGUF wrong")
    assert store().pull("u/r").read_bytes() == CONTENT


def test_a_small_file_is_checked_by_its_git_id(hub: FakeHub, store: OpenStore):
    repository = hub.add("u/r", dict(FOLDER))
    repository.listed_oids["config.json"] = "0" * 40
    with pytest.raises(PullError, match=r"config\.json: its git object id is .* not 000"):
        store().pull("u/r")
    assert not store().find("u/r").is_present


def test_what_is_no_gguf_file_is_thrown_away(hub: FakeHub, store: OpenStore, tmp_path: Path):
    hub.add("u/r", {"m-Q8_0.gguf": b"not what it is called"})
    with pytest.raises(ModelFileError, match=r"u/r/m-Q8_0\.gguf is not a GGUF file"):
        store().pull("u/r")
    assert list((tmp_path / "cache/models--u--r/blobs").iterdir()) == []


@pytest.mark.usefixtures("models")
def test_two_pulls_share_the_work(hub: FakeHub, store: OpenStore):
    hub.faults = [Fault("/store/", pause=0.05)]
    labels: list[str] = []
    paths: list[Path] = []

    def pull() -> None:
        report = lambda done, total, label: labels.append(label)  # noqa: E731
        paths.append(store().pull("u/r", report))

    threads = [threading.Thread(target=pull) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 1
    assert len(hub.downloads()) == 1
    assert "waiting for another pull of this file" in labels


@pytest.mark.posix("kill")
@pytest.mark.usefixtures("models")
def test_a_killed_pull_leaves_no_name_and_goes_on(hub: FakeHub, store: OpenStore, tmp_path: Path):
    hub.faults = [Fault("/store/", pause=0.5)]
    script = "import sys; from runtime.models.store import ModelStore; ModelStore().pull('u/r')"
    with subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": search_path()}
    ) as process:
        wait_for(lambda: any(_sizes(tmp_path)), PATIENCE)
        process.kill()
    assert not store().find("u/r").is_present
    hub.requests.clear()
    assert store().pull("u/r").read_bytes() == CONTENT
    assert hub.downloads()[0].byte_range is not None


def _sizes(tmp_path: Path) -> list[int]:
    return [path.stat().st_size for path in (tmp_path / "cache").rglob("*.incomplete")]


@pytest.mark.usefixtures("models")
def test_a_full_disk_is_said_before_anything_is_fetched(
    hub: FakeHub, store: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    usage = shutil.disk_usage("/")._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(PullError, match=r"u/r needs 1 MB in .*, where 0 MB are free"):
        store().pull("u/r:BF16")
    assert hub.downloads() == []


@pytest.mark.usefixtures("models")
def test_what_is_too_large_is_said_before_anything_is_fetched(hub: FakeHub, store: OpenStore):
    for ask in (store(memory=100_000_000).pull, store(memory=100_000_000).look_up):
        with pytest.raises(PullError, match=r"needs 0\.1 GB of memory, and 0\.1 GB"):
            ask("u/r")
    assert hub.downloads() == []


@pytest.mark.usefixtures("models")
def test_offline_nothing_is_asked(hub: FakeHub, store: OpenStore, monkeypatch: pytest.MonkeyPatch):
    for ask in (store(is_offline=True).pull, store(is_offline=True).look_up):
        with pytest.raises(PullError, match="nothing is downloaded offline"):
            ask("u/r")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PullError, match="HF_HUB_OFFLINE"):
        store().pull("u/r")
    assert hub.requests == []


@pytest.mark.skipif(IS_WINDOWS, reason="links of its own")
@pytest.mark.usefixtures("models")
def test_a_cache_that_cannot_be_written_can_be_read(store: OpenStore, tmp_path: Path):
    path = store().pull("u/r")
    folders = [folder for folder in (tmp_path / "cache").rglob("*") if folder.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert store().find("u/r").path == path
        assert path.read_bytes() == CONTENT
    finally:
        for folder in folders:
            folder.chmod(0o755)
