"""The model store: whole files or none, whatever happens on the way."""

import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ModelFileError, ModelNotFound, PullError, SetupError
from runtime.models.catalogue import CatalogueEntry
from runtime.models.fetch import fetch
from runtime.models.sources import Fetch, HubFile, WheelMirror, WheelPart
from runtime.models.store import ModelStore, default_folder
from runtime.models.wheel_mirror import completed_parts
from tests.kit.quick_pip import use_quick_pip
from tests.kit.root import ROOT

CONTENT = b"GGUF" + random.Random(7).randbytes(250_000)
SIZES = (150_000, 100_004)
VERSION = "1.0.0"


def part(number: int, size: int) -> WheelPart:
    return WheelPart(
        package=f"lockgate-tiny-part{number}",
        member=f"lockgate_tiny_part{number}/data/part{number:02}.bin",
        size=size,
    )


PARTS = tuple(part(number, size) for number, size in enumerate(SIZES, 1))
ENTRY = CatalogueEntry(
    name="tiny-model",
    file="tiny.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    licence="Apache-2.0",
    wheels=WheelMirror(version=VERSION, parts=PARTS),
)


def build_wheel(folder: Path, part: WheelPart, data: bytes) -> Path:
    name = part.package.replace("-", "_")
    wheel = folder / f"{name}-{VERSION}-py3-none-any.whl"
    info = f"{name}-{VERSION}.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(part.member, data)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {VERSION}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A folder with the wheels of the tiny model."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    start = 0
    for piece in PARTS:
        build_wheel(folder, piece, CONTENT[start : start + piece.size])
        start += piece.size
    return folder


@pytest.fixture(autouse=True)
def quick_pip(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where pip itself is a part of the question does it run."""
    if "real_pip" not in request.fixturenames:
        use_quick_pip(monkeypatch)


@pytest.fixture
def real_pip() -> None:
    """Wheels are downloaded by pip."""


@pytest.fixture
def store(tmp_path: Path, mirror: Path) -> ModelStore:
    return open_store(tmp_path, mirror)


def open_store(tmp_path: Path, mirror: Path, entry: CatalogueEntry = ENTRY) -> ModelStore:
    options = ("--no-index", "--find-links", str(mirror))
    return ModelStore(tmp_path / "models", catalogue=[entry], pip_options=options)


def files(store: ModelStore) -> list[str]:
    """Everything in the model folder but locks and marks."""
    return sorted(
        path.name for path in store.folder.iterdir() if path.name not in (".locks", ".checked")
    )


class Stop(Exception):
    """What breaks off a pull in these tests."""


@pytest.mark.usefixtures("real_pip")
def test_pull_joins_the_parts(store: ModelStore) -> None:
    path = store.pull("tiny-model")
    assert path.read_bytes() == CONTENT
    assert files(store) == ["tiny.gguf"]
    assert store.find("tiny-model").is_present


def test_pulled_model_is_not_pulled_again(store: ModelStore, mirror: Path) -> None:
    store.pull("tiny-model")
    shutil.rmtree(mirror)
    labels = set()
    store.pull("tiny-model", lambda done, total, label: labels.add(label))
    assert labels == {"checking"}


@pytest.mark.usefixtures("real_pip")
def test_progress_never_goes_back(store: ModelStore) -> None:
    seen: dict[str, list[int]] = {}

    def note(done: int, total: int, label: str) -> None:
        assert 0 <= done <= total == len(CONTENT)
        seen.setdefault(label, []).append(done)

    store.pull("tiny-model", note)

    assert [label for label in seen if "part" in label] == [
        f"package mirror, part {number} of 2" for number in (1, 2)
    ]
    for values in seen.values():
        assert values == sorted(values)
    assert seen["checking"][-1] == len(CONTENT)


def test_broken_off_pull_goes_on_where_it_stopped(store: ModelStore, mirror: Path) -> None:
    def stop_at_part_2(done: int, total: int, label: str) -> None:
        if "part 2" in label:
            raise Stop

    with pytest.raises(Stop):
        store.pull("tiny-model", stop_at_part_2)
    assert not store.find("tiny-model").is_present
    assert (store.folder / "tiny.gguf.part").read_bytes() == CONTENT[: SIZES[0]]

    # the first part is not asked for again
    next(mirror.glob("*part1*")).unlink()
    assert store.pull("tiny-model").read_bytes() == CONTENT
    assert files(store) == ["tiny.gguf"]


@pytest.mark.parametrize("length", [1, 200_000, len(CONTENT), len(CONTENT) + 5])
def test_any_beginning_is_completed(store: ModelStore, length: int) -> None:
    store.folder.mkdir()
    (store.folder / "tiny.gguf.part").write_bytes((CONTENT + b"12345")[:length])
    assert store.pull("tiny-model").read_bytes() == CONTENT


@given(
    sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=8),
    length=st.integers(0, 9000),
)
def test_completed_parts_are_the_longest_that_fit(sizes: list[int], length: int) -> None:
    source = WheelMirror(
        version=VERSION, parts=tuple(part(number, size) for number, size in enumerate(sizes))
    )
    number, done = completed_parts(source, length)
    assert done == sum(sizes[:number]) <= length
    assert number == len(sizes) or done + sizes[number] > length


def test_what_a_killed_pull_left_is_removed(store: ModelStore) -> None:
    wheels = store.folder / ".tiny.gguf.pull" / "wheels" / "left"
    wheels.mkdir(parents=True)
    (wheels / "half.whl").write_bytes(b"x")
    store.pull("tiny-model")
    assert files(store) == ["tiny.gguf"]


def test_wrong_hash_is_refused_and_leaves_nothing(tmp_path: Path, mirror: Path) -> None:
    entry = msgspec.structs.replace(ENTRY, sha256="0" * 64)
    store = open_store(tmp_path, mirror, entry)
    with pytest.raises(PullError, match=f"SHA-256 is {ENTRY.sha256}, not 0000"):
        store.pull("tiny-model")
    assert files(store) == []


def test_damaged_beginning_is_fetched_again(store: ModelStore) -> None:
    store.folder.mkdir()
    (store.folder / "tiny.gguf.part").write_bytes(bytes(SIZES[0]))
    assert store.pull("tiny-model").read_bytes() == CONTENT
    assert files(store) == ["tiny.gguf"]


@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT[:-1] + b"?"])
def test_damaged_file_is_replaced(store: ModelStore, damage: bytes) -> None:
    store.folder.mkdir()
    path = store.folder / "tiny.gguf"
    path.write_bytes(damage)
    assert not store.is_intact(ENTRY)
    assert store.pull("tiny-model") == path
    assert store.is_intact(ENTRY)


@pytest.mark.parametrize(
    ("member", "size", "message"),
    [
        ("elsewhere.bin", SIZES[0], "has no file lockgate_tiny_part1/data/part01.bin"),
        (PARTS[0].member, 10, "holds 10 bytes, not 150000"),
    ],
)
def test_wheel_with_something_else_is_refused(
    store: ModelStore, mirror: Path, member: str, size: int, message: str
) -> None:
    build_wheel(mirror, msgspec.structs.replace(PARTS[0], member=member), bytes(size))
    with pytest.raises(PullError, match=message):
        store.pull("tiny-model")
    assert files(store) == []


@pytest.mark.usefixtures("real_pip")
def test_missing_wheel_is_named(store: ModelStore, mirror: Path) -> None:
    next(mirror.glob("*part2*")).unlink()
    with pytest.raises(
        PullError, match=r"package mirror: pip could not download lockgate-tiny-part2==1\.0\.0 \(No"
    ):
        store.pull("tiny-model")
    # what has been downloaded stays for the next attempt
    assert files(store) == ["tiny.gguf.part"]


def test_second_pull_waits_for_the_first(tmp_path: Path, mirror: Path) -> None:
    started, waiting = threading.Event(), threading.Event()
    results: list[bytes] = []

    def first(done: int, total: int, label: str) -> None:
        started.set()
        assert waiting.wait(60), "the second pull never waited"

    def second(done: int, total: int, label: str) -> None:
        if "another pull" in label:
            waiting.set()

    def pull(progress: Any) -> None:
        store = open_store(tmp_path, mirror)
        results.append(store.pull("tiny-model", progress).read_bytes())

    threads = [threading.Thread(target=pull, args=(progress,)) for progress in (first, second)]
    threads[0].start()
    assert started.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join()

    assert results == [CONTENT, CONTENT]


def test_lack_of_space_is_said_before_anything_starts(tmp_path: Path, mirror: Path) -> None:
    entry = msgspec.structs.replace(ENTRY, size=10**18)
    store = open_store(tmp_path, mirror, entry)
    with pytest.raises(PullError, match=r"needs 1,000,000,000,000 MB in .*Make room"):
        store.pull("tiny-model")
    assert files(store) == []


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ModelStore(tmp_path / "file" / "models", catalogue=[ENTRY])
    with pytest.raises(PullError, match=r"tiny-model cannot be stored in .*models: "):
        store.pull("tiny-model")


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


HUB_FILE = HubFile(repo_id="owner/tiny", revision="a" * 40, file="tiny.gguf")


def test_hub_out_of_reach_gives_way_to_the_mirror(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    entry = msgspec.structs.replace(ENTRY, hub=HUB_FILE)
    assert open_store(tmp_path, mirror, entry).pull("tiny-model").read_bytes() == CONTENT

    only_hub = {"hub": HUB_FILE, "wheels": None}
    entry = msgspec.structs.replace(ENTRY, name="other", file="o.gguf", **only_hub)
    store = open_store(tmp_path, mirror, entry)
    with pytest.raises(PullError, match=r"other could not be pulled\. Hugging Face hub: out of"):
        store.pull("other")
    assert files(store) == ["tiny.gguf"]


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download of one file asks for."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        is_file = self.path == f"/owner/tiny/resolve/{HUB_FILE.revision}/tiny.gguf"
        body = CONTENT if is_file else b"{}"
        self.send_response(200 if is_file or self.path == "/" else 404)
        self.send_header("ETag", '"tiny"')
        self.send_header("X-Repo-Commit", HUB_FILE.revision)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hub_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


_PULL_FROM_HUB = """
import sys, msgspec
from runtime.models.store import CatalogueEntry, ModelStore
entry = msgspec.json.decode(sys.argv[2], type=CatalogueEntry)
print(ModelStore(sys.argv[1], catalogue=[entry]).pull(entry.name))
"""


def test_hub_is_the_source_when_it_can_be_reached(tmp_path: Path, hub_url: str) -> None:
    """In a process of its own, because the hub's client reads its address once."""
    entry = msgspec.structs.replace(ENTRY, hub=HUB_FILE, wheels=None)
    encoded = msgspec.json.encode(entry).decode()
    command = [sys.executable, "-c", _PULL_FROM_HUB, str(tmp_path / "models"), encoded]
    environ = {
        **os.environ,
        "HF_ENDPOINT": hub_url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "no_proxy": "*",
    }
    answer = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    folder = tmp_path / "models"
    assert (folder / "tiny.gguf").read_bytes() == CONTENT
    assert sorted(path.name for path in folder.iterdir()) == [".checked", ".locks", "tiny.gguf"]


def test_offline_hub_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    job = Fetch(
        part=tmp_path / "x.part",
        scratch=tmp_path / "scratch",
        size=1,
        progress=lambda done, total, label: None,
    )
    with pytest.raises(PullError):
        fetch(HUB_FILE, job)


def test_path_of_a_file_is_a_model(store: ModelStore, tmp_path: Path) -> None:
    path = tmp_path / "my model.gguf"
    path.write_bytes(CONTENT)
    model = store.find(str(path))
    assert (model.name, model.path, model.is_present) == ("my model", path, True)
    assert model.entry is None


def test_checkpoint_folder_is_a_model(store: ModelStore, tmp_path: Path) -> None:
    folder = tmp_path / "Tiny-1.5B"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for path in (str(folder), f"{folder}/", str(folder / ".." / "Tiny-1.5B")):
        model = store.find(path)
        assert (model.name, model.is_folder, model.is_present) == ("Tiny-1.5B", True, True)
        assert model.path == Path(path)
    assert not store.find("tiny-model").is_folder


def test_known_model_need_not_be_there(store: ModelStore) -> None:
    model = store.find("tiny-model")
    assert model.path == store.folder / "tiny.gguf"
    assert not model.is_present
    assert [model.name for model in store.models()] == ["tiny-model"]


@pytest.mark.parametrize("path", ["none.gguf", "folder/none", "./none", "~/none.gguf"])
def test_missing_file_is_named(store: ModelStore, path: str) -> None:
    with pytest.raises(ModelNotFound, match=f"there is no model file {path}"):
        store.find(path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tiny", "Did you mean tiny-model? Known names: tiny-model;"),
        ("tiny-modle", "Did you mean tiny-model?"),
        ("zzzz", "named 'zzzz'. Known names: tiny-model; or give the path of a .gguf file or of a"),
        ("", "named ''. Known names: tiny-model;"),
    ],
)
def test_unknown_name_lists_the_known(store: ModelStore, name: str, hint: str) -> None:
    for ask in (store.find, store.pull):
        with pytest.raises(ModelNotFound) as caught:
            ask(name)
        assert hint in str(caught.value)


def test_what_is_no_model_is_refused(store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is a folder without a config"):
        store.find(str(tmp_path))
    path = tmp_path / "text.gguf"
    path.write_text("GGU")
    with pytest.raises(ModelFileError, match=r"text\.gguf is not a GGUF file"):
        store.find(str(path))


@pytest.mark.posix("folders")
def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCKGATE_MODELS", raising=False)
    assert default_folder() == Path("/home/someone/.cache/lockgate/models")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_folder() == Path("/cache/lockgate/models")
    monkeypatch.setenv("LOCKGATE_MODELS", "~/models")
    assert default_folder() == Path("/home/someone/models")
    assert ModelStore("elsewhere").folder == Path("elsewhere")


def test_pull_errors_are_for_the_user_to_put_right() -> None:
    assert issubclass(PullError, SetupError)
    assert issubclass(ModelNotFound, SetupError)
