"""The hub's HTTP interface, and that of the store of large files that it redirects to."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.kit.hub.contents import HubRepository, oid_of


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose path has `where` in it: an answer of
    another kind, or a transfer that ends after `cut_at` bytes, or that rests `pause` seconds
    between blocks, or that has other bytes in it."""

    where: str
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    cut_at: int | None = None
    pause: float = 0.0
    content: bytes | None = None


@dataclass
class Seen:
    """A request that has come."""

    method: str
    path: str
    byte_range: str | None
    authorization: str | None


class FakeHub:
    """The hub. `url` is its endpoint; large files lie on another server, as with the real one.

    `tokens` says which private and gated repositories a token opens. A listing has `page_size`
    entries a page.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, HubRepository] = {}
        self.renamed: dict[str, str] = {}
        self.tokens: dict[str, set[str]] = {}
        self.faults: list[Fault] = []
        self.requests: list[Seen] = []
        self.page_size = 3
        self.knows_ranges = True
        self.next_links_to = ""
        self.lock = threading.Lock()
        self.url = ""
        self.store_url = ""

    def add(self, id: str, files: dict[str, bytes], **facts: object) -> HubRepository:
        """A new repository."""
        repository = HubRepository(id, files, **facts)  # type: ignore[arg-type]
        self.repositories[id] = repository
        return repository

    def paths(self, method: str = "GET") -> list[str]:
        """The paths that were asked for, without what follows a question mark."""
        return [seen.path.partition("?")[0] for seen in self.requests if seen.method == method]

    def downloads(self) -> list[Seen]:
        """What was asked of the store."""
        return [seen for seen in self.requests if seen.path.startswith("/store/")]

    def fault_for(self, path: str) -> Fault | None:
        """The fault that is due, which is used up by that."""
        with self.lock:
            for fault in self.faults:
                if fault.where in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A hub that answers as long as the block."""
    hub = FakeHub()
    kinds = (type("Api", (_Api,), {"hub": hub}), type("Store", (_Store,), {"hub": hub}))
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in kinds]
    for server in servers:
        server.daemon_threads = True
    hub.url, hub.store_url = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionResetError:  # a client that has left
            self.close_connection = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        seen = Seen(self.command, self.path, self.headers["Range"], self.headers["Authorization"])
        self.hub.requests.append(seen)
        fault = self.hub.fault_for(self.path)
        if fault is not None and fault.status:
            self._send(fault.status, fault.body, fault.headers)
            return
        try:
            self.answer(fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, fault: Fault | None) -> None:
        raise NotImplementedError

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _json(self, document: object, **headers: str) -> None:
        body = json.dumps(document).encode()
        self._send(200, body, {"Content-Type": "application/json", **headers})

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code} if code else {}
        self._send(status, b"{}", {**headers, "X-Error-Message": message})

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class _Api(_Handler):
    def answer(self, fault: Fault | None) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        if path == "/api/models":
            self._search(query)
            return
        found = re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+)(?:/([^/]+)(?:/(.*))?)?", path)
        if found is None:
            self._refuse(404, "", "Sorry, we can't find the page you are looking for.")
            return
        id, view, rest = found.group(1), found.group(2) or "", found.group(3) or ""
        if id in self.hub.renamed:
            target = self.path.replace(id, self.hub.renamed[id], 1)
            self._send(307, b"", {"Location": target})
            return
        repository = self._opened(id, is_content=not path.startswith("/api/"))
        if repository is not None:
            self._about(repository, view, rest, query, fault)

    def _opened(self, id: str, *, is_content: bool) -> HubRepository | None:
        """The repository, if who asks may know of it; otherwise the refusal has been sent."""
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            self._refuse(401, "", "Invalid credentials in Authorization header")
            return None
        repository = self.hub.repositories.get(id)
        may_read = id in self.hub.tokens.get(token, set())
        if repository is None or (repository.is_private and not may_read):
            status, message = (404 if token else 401), "Repository not found"
            self._refuse(status, "RepoNotFound", message)
            return None
        if repository.is_gated and is_content and not may_read:
            message = f"Access to model {id} is restricted."
            self._refuse(403 if token else 401, "GatedRepo", message)
            return None
        return repository

    def _about(
        self,
        repository: HubRepository,
        view: str,
        rest: str,
        query: dict[str, list[str]],
        fault: Fault | None,
    ) -> None:
        match view:
            case "" | "revision":
                self._json(repository.card())
            case "refs":
                branch = _ref("heads", repository.branch, repository.commit)
                tags = [_ref("tags", name, commit) for name, commit in repository.tags.items()]
                self._json({"branches": [branch], "converts": [], "tags": tags})
            case "tree":
                self._tree(repository, rest, query)
            case "resolve":
                revision, _, path = rest.partition("/")
                self._resolve(repository, revision, path, fault)
            case _:
                self._refuse(404, "", "Sorry, we can't find the page you are looking for.")

    def _tree(self, repository: HubRepository, revision: str, query: dict[str, list[str]]) -> None:
        found = repository.files_at(revision)
        if found is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        entries: list[object] = [repository.entry(*item) for item in sorted(found[1].items())]
        folders = {path.rpartition("/")[0] for path in found[1]} - {""}
        entries += [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders]
        start = int(query.get("cursor", ["0"])[0])
        end = start + self.hub.page_size
        headers = {}
        if end < len(entries):
            base = self.hub.next_links_to or self.hub.url
            path = f"/api/models/{repository.id}/tree/{revision}"
            headers["Link"] = f'<{base}{path}?recursive=true&cursor={end}>; rel="next"'
        self._json(entries[start:end], **headers)

    def _resolve(
        self, repository: HubRepository, revision: str, path: str, fault: Fault | None
    ) -> None:
        found = repository.files_at(revision)
        if found is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        commit, files = found
        if path not in files:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        entry = repository.entry(path, files[path])
        oid = oid_of(path, files[path])
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if "lfs" not in entry:
            self._send(200, files[path], {**headers, "ETag": f'"{oid}"'})
            return
        self._send(
            302,
            b"",
            {
                **headers,
                "X-Linked-Size": str(len(files[path])),
                "X-Linked-Etag": f'"{oid}"',
                "Location": f"{self.hub.store_url}/store/{oid}?name={quote(path)}&signature=s",
            },
        )

    def _search(self, query: dict[str, list[str]]) -> None:
        words = query.get("search", [""])[0].lower().split()
        limit = int(query.get("limit", ["100"])[0])
        found = [
            repository
            for repository in self.hub.repositories.values()
            if all(word in repository.id.lower() for word in words) and not repository.is_private
        ]
        found.sort(key=lambda repository: -repository.downloads)
        self._json([repository.card() for repository in found[:limit]])


class _Store(_Handler):
    def answer(self, fault: Fault | None) -> None:
        if self.headers["Authorization"]:
            self._refuse(400, "", "Only one auth mechanism allowed")
            return
        oid = urlsplit(self.path).path.rpartition("/")[2]
        content = self._content(oid)
        if content is None:
            self._refuse(404, "", "no such object")
            return
        if fault is not None and fault.content is not None:
            content = fault.content
        self._send_range(content, oid, fault or Fault(""))

    def _content(self, oid: str) -> bytes | None:
        for repository in self.hub.repositories.values():
            for files in (repository.files, *repository.old_commits.values()):
                for path, content in files.items():
                    if oid_of(path, content) == oid:
                        return content
        return None

    def _send_range(self, content: bytes, oid: str, fault: Fault) -> None:
        start, asked = 0, self.headers["Range"]
        headers = {"ETag": f'"{oid}"'}
        if asked and self.hub.knows_ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if "Content-Range" in headers else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "GET":
            self._write(content[start:], fault)

    def _write(self, body: bytes, fault: Fault) -> None:
        end = len(body) if fault.cut_at is None else min(fault.cut_at, len(body))
        block = max(1, end // 10) if fault.pause else max(end, 1)
        for position in range(0, end, block):
            self.wfile.write(body[position : min(position + block, end)])
            self.wfile.flush()
            time.sleep(fault.pause)
        if end < len(body):
            self.close_connection = True


def _ref(kind: str, name: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}
