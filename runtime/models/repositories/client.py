"""The hub's HTTP interface, as far as it is used: listings of repositories, search, files."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from runtime.errors import ModelNotFound, PullError, SetupError
from runtime.models.repositories.listing import Listing, RemoteFile
from runtime.models.repositories.place import HubPlace
from runtime.models.repositories.problems import Asked, problem
from runtime.version import __version__

if TYPE_CHECKING:
    import httpx

_CONNECT_TIMEOUT = 5.0
_READ_TIMEOUT = 30.0
_MAX_ANSWER_BYTES = 64_000_000
_MAX_PAGES = 1_000
_MAX_TRIES = 4
_LONGEST_WAIT = 30.0
RETRY_SECONDS = 1.0
"""The pause before the first new try, which doubles with each."""

_MAIN = "main"
_COMMIT = re.compile("[0-9a-f]{40}")
_API = "/api/models"
_T = TypeVar("_T")


class _Answer(Struct, frozen=True):
    """The body, and the URL of the next page, if there is one."""

    content: bytes
    following: str


class _Ref(Struct, frozen=True, rename="camel"):
    name: str
    target_commit: str


class _Refs(Struct, frozen=True):
    branches: list[_Ref] = []
    tags: list[_Ref] = []
    converts: list[_Ref] = []


class _Lfs(Struct, frozen=True):
    oid: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, Meta(ge=0)]


class _Entry(Struct, frozen=True):
    type: str
    path: str
    oid: Annotated[str, Meta(pattern="^[0-9a-f]{40}([0-9a-f]{24})?$")]
    size: Annotated[int, Meta(ge=0)] = 0
    lfs: _Lfs | None = None


class GGUFFacts(Struct, frozen=True):
    """What the hub has read in a repository's GGUF files. `total` is the number of weights."""

    total: int = 0
    architecture: str = ""
    context_length: int = 0
    chat_template: str = ""


class RepositoryInfo(Struct, frozen=True, rename="camel"):
    """A repository in an answer of the hub's search. `downloads` are those of the last 30 days."""

    id: str
    downloads: int = 0
    likes: int = 0
    gated: bool | str = False
    tags: tuple[str, ...] = ()
    gguf: GGUFFacts | None = None

    @property
    def licence(self) -> str:
        """Such as "apache-2.0"; "" if the repository does not say."""
        prefix = "license:"
        named = (tag.removeprefix(prefix) for tag in self.tags if tag.startswith(prefix))
        return next(named, "")


class HubClient:
    """Asks the hub. `on_wait` is told of pauses that the hub asks for; `pause` waits so many
    seconds. Close it after use."""

    def __init__(
        self,
        place: HubPlace,
        on_wait: Callable[[str], None] = lambda _: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        import httpx
        from huggingface_hub import get_token

        self.place = place
        self.on_wait = on_wait
        self._pause = pause
        token = get_token()
        self._has_token = bool(token)
        headers = {"User-Agent": f"lockgate/{__version__}", "Accept-Encoding": "identity"}
        self._http = httpx.Client(
            headers={**headers, "Authorization": f"Bearer {token}"} if token else headers,
            follow_redirects=True,
            timeout=httpx.Timeout(_READ_TIMEOUT, connect=_CONNECT_TIMEOUT),
        )

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def listing(self, repository: str, revision: str = "") -> Listing:
        """All files of the repository at a branch, a tag or a commit; "" is the main branch.

        Raises ModelNotFound for what does not exist, PullError if the hub does not answer.
        """
        ref, commit = self._commit(repository, revision)
        path = f"{_API}/{repository}/tree/{commit}?recursive=true"
        entries = [
            entry for page in self._pages(path, repository) for entry in _read(page, list[_Entry])
        ]
        files = tuple(_file(entry) for entry in entries if entry.type == "file")
        return Listing(repository=repository, commit=commit, ref=ref, files=files)

    def info(self, repository: str) -> RepositoryInfo:
        """What the hub says of the repository."""
        fields = "&".join(f"expand={name}" for name in _FIELDS)
        answer = self._get(f"{_API}/{repository}?{fields}", repository)
        return _read(answer.content, RepositoryInfo)

    def search(self, words: str, limit: int) -> list[RepositoryInfo]:
        """Repositories with GGUF files that the hub finds, the most downloaded first."""
        fields = "&".join(f"expand={name}" for name in _FIELDS)
        query = f"search={quote(words)}&filter=gguf&sort=downloads&direction=-1&limit={limit}"
        answer = self._get(f"{_API}?{query}&{fields}", "")
        return _read(answer.content, list[RepositoryInfo])[:limit]

    @contextmanager
    def open(
        self, listing: Listing, path: str, headers: Mapping[str, str]
    ) -> Iterator["httpx.Response"]:
        """An answer with the content of a file, which may have been asked for from some byte on.
        Raises PullError for an answer that is none, httpx.TransportError for a lost connection."""
        url = f"{self.place.endpoint}/{listing.repository}/resolve/{listing.commit}/{quote(path)}"
        with self._http.stream("GET", url, headers=dict(headers)) as response:
            if response.status_code not in (200, 206, 416):
                raise self._problem(response, listing.repository)
            yield response

    def patiently(self, ask: Callable[[], _T]) -> _T:
        """The result of `ask`, which is tried again after a lost connection and when the hub asks
        for patience, if that is for seconds."""
        import httpx

        tries = 1
        while True:
            try:
                return ask()
            except Asked as error:
                wait = RETRY_SECONDS * 2**tries if error.seconds is None else error.seconds
                if tries == _MAX_TRIES or wait > _LONGEST_WAIT:
                    raise
                self.on_wait(str(error))
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
                if tries == _MAX_TRIES or not is_worth_a_retry(error):
                    raise PullError(f"{self.place.endpoint}: {words_of(error)}") from error
                wait = RETRY_SECONDS * 2 ** (tries - 1)
            self._pause(wait)
            tries += 1

    def _commit(self, repository: str, revision: str) -> tuple[str, str]:
        """The name of the branch or tag, and the commit that it points to."""
        if _COMMIT.fullmatch(revision):
            return "", revision
        refs = _read(self._get(f"{_API}/{repository}/refs", repository).content, _Refs)
        every = [*refs.branches, *refs.tags, *refs.converts]
        named = [ref for ref in every if ref.name == (revision or _MAIN)]
        found = named or ([] if revision else refs.branches)
        if not found or not _COMMIT.fullmatch(found[0].target_commit):
            raise ModelNotFound(f"{repository} has no branch or tag {revision or _MAIN}")
        return found[0].name, found[0].target_commit

    def _pages(self, path: str, repository: str) -> Iterator[bytes]:
        for _ in range(_MAX_PAGES):
            answer = self._get(path, repository)
            yield answer.content
            if not answer.following:
                return
            # a mirror may hand on the address of the hub itself, and has to be asked itself
            path = answer.following[answer.following.find(_API) :]
        raise PullError(f"{repository} has more files than are listed here")

    def _get(self, path: str, repository: str) -> "_Answer":
        return self.patiently(lambda: self._ask(path, repository))

    def _ask(self, path: str, repository: str) -> "_Answer":
        with self._http.stream("GET", f"{self.place.endpoint}{path}") as response:
            if response.status_code != 200:
                raise self._problem(response, repository)
            content = bytearray()
            for block in response.iter_bytes():
                content += block
                if len(content) > _MAX_ANSWER_BYTES:
                    raise PullError(f"{self.place.endpoint} sends too long an answer")
            return _Answer(bytes(content), response.links.get("next", {}).get("url", ""))

    def _problem(self, response: "httpx.Response", repository: str) -> SetupError:
        headers = {name.lower(): value for name, value in response.headers.items()}
        return problem(
            response.status_code,
            headers,
            repository,
            self.place.endpoint,
            has_token=self._has_token,
        )


_FIELDS = ("downloads", "likes", "gated", "tags", "gguf")


def _file(entry: _Entry) -> RemoteFile:
    if entry.lfs is None:
        return RemoteFile(path=entry.path, size=entry.size, oid=entry.oid, is_large=False)
    return RemoteFile(path=entry.path, size=entry.lfs.size, oid=entry.lfs.oid, is_large=True)


def _read(content: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PullError(f"the hub's answer cannot be read: {error}") from error


def is_worth_a_retry(error: Exception) -> bool:
    """Whether a lost connection may be better at the next try."""
    import httpx

    hopeless = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)
    return isinstance(error, httpx.TransportError) and not isinstance(error, hopeless)


def words_of(error: Exception) -> str:
    """What went wrong with a connection, in one line."""
    import httpx

    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"out of reach ({str(error).strip() or 'no answer'})"
    if isinstance(error, httpx.TimeoutException):
        return "no answer for too long"
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return "the connection broke off"
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
