"""Mirrors of the user's: folders and URLs. The hash of the catalogue decides about their files."""

import hashlib
import json
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.__main__ import main
from gateway.commands.models_on_disk import ensure_model
from gateway.settings.loader import Override, load_settings
from runtime.errors import PullError, SetupError
from runtime.models.catalogue import CatalogueEntry
from runtime.models.mirrors import DEFAULT_MIRRORS, sources_of
from runtime.models.sources import FolderFile, HubFile, WebFile, WheelMirror, WheelPart
from runtime.models.store import ModelStore

CONTENT = b"GGUF" + random.Random(7).randbytes(3_000_000)
HUB = HubFile(repo_id="owner/tiny", revision="a" * 40, file="tiny.gguf")
WHEELS = WheelMirror(
    version="1", parts=(WheelPart(package="tiny-1", member="tiny_1/part", size=len(CONTENT)),)
)
ENTRY = CatalogueEntry(
    name="tiny",
    file="tiny.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    licence="Apache-2.0",
)


class Web(ThreadingHTTPServer):
    """A web server with `content` at /models/tiny.gguf, and a redirect to it at /moved."""

    content = CONTENT
    knows_ranges = True
    range_offset = 0
    cut_at: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[tuple[str, str | None, str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        headers = (self.headers["Range"], self.headers["Authorization"])
        self.server.requests.append((self.path, *headers))
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.path.replace("/moved/", "/models/"))
            self.end_headers()
        elif self.path == "/models/tiny.gguf":
            self._send_file()
        else:
            self.send_error(404)

    def _send_file(self) -> None:
        start = 0
        if self.headers["Range"] and self.server.knows_ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            first = start + self.server.range_offset
            self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
        else:
            self.send_response(200)
        body = self.server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut_at])

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "*")
    with Web() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "tiny.gguf").write_bytes(CONTENT)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., ModelStore]:
    def open_store(*mirrors: object, entry: CatalogueEntry = ENTRY) -> ModelStore:
        names = [str(mirror) for mirror in mirrors]
        return ModelStore(tmp_path / "models", catalogue=[entry], mirrors=names)

    return open_store


OpenStore = Callable[..., ModelStore]


def files(store: ModelStore) -> list[str]:
    return sorted(
        path.name for path in store.folder.iterdir() if path.name not in (".locks", ".checked")
    )


def test_the_hub_comes_first_and_the_mirrors_in_their_order() -> None:
    entry = msgspec.structs.replace(ENTRY, hub=HUB, wheels=WHEELS)
    url, folder = "https://models.example/gguf/", "/mnt/models"
    web_file = WebFile(url="https://models.example/gguf/tiny.gguf")
    folder_file = FolderFile(path=Path("/mnt/models/tiny.gguf"))

    assert sources_of(entry, DEFAULT_MIRRORS) == [HUB, WHEELS]
    assert sources_of(entry, []) == [HUB]
    assert sources_of(entry, [folder, "package-index", url]) == [HUB, folder_file, WHEELS, web_file]
    assert sources_of(ENTRY, DEFAULT_MIRRORS) == []


def test_pull_from_a_folder(store: OpenStore, folder: Path) -> None:
    opened = store(folder)
    seen: list[int] = []
    path = opened.pull("tiny", lambda done, total, label: seen.append(done))
    assert path.read_bytes() == CONTENT
    assert files(opened) == ["tiny.gguf"]
    assert seen.count(len(CONTENT)) == 2  # fetched and checked


@pytest.mark.parametrize("path", ["/models", "/models/", "/moved"])
def test_pull_from_a_url(store: OpenStore, web: Web, path: str) -> None:
    opened = store(web.url + path)
    assert opened.pull("tiny").read_bytes() == CONTENT
    assert files(opened) == ["tiny.gguf"]
    assert web.requests[-1][:2] == ("/models/tiny.gguf", None)


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_broken_off_download_goes_on(store: OpenStore, web: Web, knows_ranges: bool) -> None:
    opened = store(f"{web.url}/models")
    web.cut_at = 1_500_000
    with pytest.raises(PullError, match=r"mirror 127\.0\.0\.1:\d+: peer closed connection"):
        opened.pull("tiny")
    assert (opened.folder / "tiny.gguf.part").read_bytes() == CONTENT[:1_500_000]

    web.cut_at, web.knows_ranges = None, knows_ranges
    assert opened.pull("tiny").read_bytes() == CONTENT
    assert web.requests[-1][1] == "bytes=1500000-"


def test_whole_part_is_not_downloaded_again(store: OpenStore, web: Web) -> None:
    opened = store(f"{web.url}/models")
    opened.folder.mkdir()
    (opened.folder / "tiny.gguf.part").write_bytes(CONTENT + b"?")
    assert opened.pull("tiny").read_bytes() == CONTENT
    assert web.requests == []


OTHER = CONTENT[:-1] + b"?"
WRONG = [
    ({"content": OTHER}, "the SHA-256 is .*, not .*; the file was thrown away"),
    ({"content": CONTENT[:-1]}, "the SHA-256 is .*, not .*; the file was thrown away"),
    ({"content": CONTENT + b"?"}, "the server sent more than 3000004 bytes"),
]


@pytest.mark.parametrize(("state", "message"), WRONG)
def test_wrong_file_at_a_url_is_refused_and_leaves_nothing(
    store: OpenStore, web: Web, state: dict[str, Any], message: str
) -> None:
    vars(web).update(state)
    opened = store(f"{web.url}/models")
    with pytest.raises(PullError, match=rf"mirror 127\.0\.0\.1:\d+: {message}"):
        opened.pull("tiny")
    assert files(opened) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (OTHER, "the SHA-256 is .*, not .*; the file was thrown away"),
        (CONTENT[:-1], r"tiny\.gguf has 3000003 bytes, not 3000004"),
        (None, r"tiny\.gguf cannot be read: No such file or directory"),
    ],
)
def test_wrong_file_in_a_folder_gives_way_to_the_next_mirror(
    store: OpenStore, web: Web, folder: Path, content: bytes | None, message: str
) -> None:
    (folder / "tiny.gguf").unlink()
    if content is not None:
        (folder / "tiny.gguf").write_bytes(content)
    with pytest.raises(PullError, match=rf"mirror .*mirror: {message}"):
        store(folder).pull("tiny")
    assert files(store()) == []
    assert store(folder, f"{web.url}/models").pull("tiny").read_bytes() == CONTENT


def test_beginning_that_another_mirror_has_left_is_not_trusted(store: OpenStore, web: Web) -> None:
    opened = store(f"{web.url}/models")
    opened.folder.mkdir()
    (opened.folder / "tiny.gguf.part").write_bytes(bytes(1_500_000))
    assert opened.pull("tiny").read_bytes() == CONTENT
    assert [request[1] for request in web.requests] == ["bytes=1500000-", None]


def test_server_that_answers_something_else(store: OpenStore, web: Web) -> None:
    with pytest.raises(PullError, match="the server answered 404"):
        store(f"{web.url}/elsewhere").pull("tiny")
    opened = store(f"{web.url}/models")
    (opened.folder / "tiny.gguf.part").write_bytes(CONTENT[:5])
    web.range_offset = 1
    with pytest.raises(PullError, match="the server answered 206"):
        opened.pull("tiny")
    web.shutdown()
    web.server_close()
    with pytest.raises(PullError, match="Connection refused"):
        opened.pull("tiny")


def test_password_of_a_url_is_used_and_in_no_message(store: OpenStore, web: Web) -> None:
    url = web.url.replace("//", "//user:secret@")
    labels: set[str] = set()
    store(f"{url}/models").pull("tiny", lambda done, total, label: labels.add(label))
    assert web.requests[0][2] == "Basic dXNlcjpzZWNyZXQ="
    other = msgspec.structs.replace(ENTRY, name="other", file="other.gguf")
    with pytest.raises(PullError) as caught:
        store(f"{url}/models", entry=other).pull("other")
    assert "secret" not in f"{labels} {caught.value}"


def with_mirrors(*mirrors: str) -> Override:
    return Override("--set", ("model", "mirrors"), json.dumps(mirrors))


@pytest.mark.parametrize(
    "mirror",
    ["package-index", "https://h", "http://u:p@[::1]:80/x/", "./m", "/mnt/m", "~/m", "..", "C:\\m"],
)
def test_mirrors_that_the_setting_takes(mirror: str) -> None:
    assert load_settings("/dev/null", options=[with_mirrors(mirror)]).model.mirrors == (mirror,)


NO_MIRRORS = [
    ("pakage-index", "'pakage-index' is no mirror; write 'package-index', a URL that begins with"),
    ("models.example", "'models.example' is no mirror"),
    ("ftp://user:secret@host/x", "'ftp://…@host/x' is no mirror"),
    ("file:///mnt/models", "is no mirror"),
    ("./a\nb", "is no mirror"),
    ("https://", "'https://' is not the URL of a folder: it needs a host, and no ? or #"),
    ("https://user:secret@host/x?y=1", "'https://…@host/x?y=1' is not the URL of a folder"),
    ("https://host/#x", "is not the URL of a folder"),
    ("https://host:port/", "is not the URL of a folder"),
    ("https://[::1/", "is not the URL of a folder"),
    ("https://a b/", "is not the URL of a folder"),
    ("", "model.mirrors[1]: expected a string that is not empty, got ''"),
]


@pytest.mark.parametrize(("mirror", "message"), NO_MIRRORS)
def test_mirrors_that_the_setting_refuses(mirror: str, message: str) -> None:
    with pytest.raises(SetupError) as caught:
        load_settings("/dev/null", options=[with_mirrors("package-index", mirror)])
    assert "model.mirrors" in str(caught.value)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.fixture
def tiny_is_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCKGATE_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("runtime.models.store.shipped_catalogue", lambda: (ENTRY,))


@pytest.mark.usefixtures("tiny_is_shipped")
def test_pull_goes_by_the_setting(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path
) -> None:
    assert main(["pull", "tiny", "--set", "model.mirrors=[]"]) == 2
    assert capsys.readouterr().err.endswith(
        "lockgate: tiny could not be pulled. The catalogue names no file of the hub for it, and"
        " model.mirrors is empty\n"
    )
    (tmp_path / "settings.toml").write_text('[model]\nmirrors = ["./mirror"]\n')
    assert main(["pull", "tiny"]) == 0
    assert (tmp_path / "models" / "tiny.gguf").read_bytes() == CONTENT
    assert capsys.readouterr().out == f"{tmp_path / 'models' / 'tiny.gguf'}\n"


@pytest.mark.usefixtures("tiny_is_shipped")
def test_serving_and_chatting_go_by_the_setting(tmp_path: Path, folder: Path) -> None:
    """Both pull a model that is missing through `ensure_model`."""
    model = Override("--model", ("model", "name_or_path"), "tiny")
    settings = load_settings("/dev/null", options=[model, with_mirrors(str(folder))])
    assert ensure_model(settings).path.read_bytes() == CONTENT
