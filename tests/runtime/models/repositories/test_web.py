"""Files at URLs that are not the hub's."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runtime.errors import ModelFileError, ModelNotFound, PullError
from runtime.models.repositories import web as web_module
from tests.kit.hub.stores import OpenStore
from tests.kit.models.tiny_model import write_tiny_model


class Site(ThreadingHTTPServer):
    """One file; `cut_at` ends the next transfer early."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.etag = '"1"'
        self.cut_at: int | None = None
        self.length = True
        self.ranges: list[str | None] = []
        self.url = f"http://user:secret@127.0.0.1:{self.server_port}/some/model-Q8_0.gguf?key=1"


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site, asked = self.server, self.headers["Range"]
        site.ranges.append(asked)
        if not self.path.startswith("/some/model"):
            self.send_error(404)
            return
        is_same = self.headers["If-Range"] == site.etag
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and is_same else 0
        self.send_response(206 if start else 200)
        if start:
            whole = len(site.content)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if site.length:
            self.send_header("Content-Length", str(len(site.content) - start))
        self.send_header("ETag", site.etag)
        self.end_headers()
        end, site.cut_at = site.cut_at, None
        self.wfile.write(site.content[start : None if end is None else start + end])

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def site(tiny_model_path: Path) -> Iterator[Site]:
    with Site(tiny_model_path.read_bytes()) as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        yield site
        site.shutdown()
        thread.join()


def left(store: OpenStore) -> list[str]:
    return sorted(path.name for path in store().folder.rglob("*.part*"))


def test_a_file_is_pulled_once_and_found(site: Site, store: OpenStore):
    assert not store().find(site.url).is_present
    path = store().pull(site.url)
    assert path.read_bytes() == site.content
    model = store().find(site.url)
    assert (model.name, model.path, model.is_present) == ("model-Q8_0", path, True)
    assert store().pull(site.url) == path
    assert len(site.ranges) == 1
    assert left(store) == []


def test_a_broken_transfer_goes_on_and_ends_where_the_file_has_changed(
    site: Site, store: OpenStore, tmp_path: Path
):
    site.cut_at = 100_000
    assert store().pull(site.url).read_bytes() == site.content
    assert site.ranges == [None, "bytes=100000-"]
    site.url += "2"
    site.cut_at, site.etag = 100_000, 'W/"weak"'
    assert store().pull(site.url).read_bytes() == site.content
    assert site.ranges[2:] == [None, None]
    site.content = write_tiny_model(tmp_path / "other.gguf", seed=5).read_bytes()
    assert store().pull(site.url + "3").read_bytes() == site.content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>please log in</html>", "this is not a GGUF file"),
        (b"", "the file is empty"),
        (None, "cut off or damaged"),
    ],
)
def test_what_is_no_whole_model_is_thrown_away(
    site: Site, store: OpenStore, content: bytes | None, words: str
):
    site.content = site.content[:-1000] if content is None else content
    with pytest.raises(ModelFileError, match=rf"model-Q8_0\.gguf: .*{words}"):
        store().pull(site.url)
    assert not store().find(site.url).is_present
    assert left(store) == []


def test_what_has_no_room_is_not_fetched(
    site: Site, store: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(PullError, match=r"needs 0\.1 GB of memory"):
        store(memory=1_000_000).pull(site.url)
    usage = web_module.shutil.disk_usage("/")._replace(free=1)
    monkeypatch.setattr(web_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(PullError, match="Make room"):
        store().pull(site.url)
    assert left(store) == []
    assert list(store().folder.rglob("web/*")) == []


def test_errors_keep_the_password(site: Site, store: OpenStore):
    names = [site.url.replace("/some/", "/none/"), site.url.replace(".gguf", ".zip")]
    names.append("http://user:secret@127.0.0.1:9/x.gguf")
    site.length = False
    for name in (*names, site.url):
        with pytest.raises((PullError, ModelNotFound)) as caught:
            store().pull(name)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
