"""Fetches a file of a repository into the cache: resumes, checks its hash, leaves nothing wrong."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

from runtime.errors import ModelFileError, PullError
from runtime.models.mirrors import byte_range, receive
from runtime.models.repositories.cache import HubCache
from runtime.models.repositories.client import HubClient
from runtime.models.repositories.listing import Listing, RemoteFile
from runtime.models.sources import COPY_BYTES, Fetch, Progress

if TYPE_CHECKING:
    import httpx

_MAGIC = b"GGUF"
_MAX_BREAKS = 5


class FileFetch(Struct, frozen=True, kw_only=True):
    """One file that is fetched: of which listing, by which client, into which cache."""

    listing: Listing
    file: RemoteFile
    client: HubClient
    cache: HubCache
    progress: Progress

    @property
    def label(self) -> str:
        """The file's name for messages."""
        return self.file.path.rpartition("/")[2]


def fetch_blob(fetch: FileFetch) -> None:
    """Puts the file's content in its place, unless it is there already, whole and intact.

    Only one process fetches a blob at a time; a second one waits and then finds it. Raises
    PullError; what has arrived stays for the next attempt, unless its hash is wrong.
    """
    listing, file, cache = fetch.listing, fetch.file, fetch.cache

    def on_wait() -> None:
        fetch.progress(0, 0, "waiting for another pull of this file")

    with cache.lock(listing.repository, file.oid, on_wait):
        if _is_intact(fetch):
            return
        blob = cache.blob(listing.repository, file.oid)
        blob.parent.mkdir(parents=True, exist_ok=True)
        part = blob.with_name(f"{file.oid}.incomplete")
        _check_space(fetch, part)
        try:
            _deliver(fetch, part)
        finally:
            if part.exists() and not _size(part):
                part.unlink()
        os.replace(part, blob)


def _is_intact(fetch: FileFetch) -> bool:
    content = fetch.cache.content(fetch.listing.repository, fetch.listing.commit, fetch.file)
    if not content.is_file() or content.stat().st_size != fetch.file.size:
        return False
    return _hash_of(content, fetch) == fetch.file.oid


def _deliver(fetch: FileFetch, part: Path) -> None:
    """Downloads and checks. A beginning that an earlier pull has left may be wrong: then the whole
    file is fetched."""
    has_beginning = _size(part) > 0
    _complete(fetch, part)
    try:
        _check_hash(fetch, part)
    except PullError:
        if not has_beginning:
            raise
        _complete(fetch, part)
        _check_hash(fetch, part)


def _complete(fetch: FileFetch, part: Path) -> None:
    """Downloads what is missing. A lost connection is taken up again where it broke off, as long
    as each attempt gets on."""
    breaks = 0
    while True:
        before = _size(part)
        try:
            fetch.client.patiently(lambda: _download(fetch, part))
            return
        except _BrokenOff as error:
            breaks = 0 if _size(part) > before else breaks + 1
            if breaks == _MAX_BREAKS:
                raise PullError(f"{fetch.label}: {error}") from error


class _BrokenOff(Exception):
    """A transfer ended before its end."""


def _download(fetch: FileFetch, part: Path) -> None:
    import httpx

    file = fetch.file
    job = Fetch(part=part, scratch=part.parent, size=file.size, progress=fetch.progress)
    with part.open("ab") as target:
        done = min(target.tell(), file.size)
        target.truncate(done)
        if done == file.size:
            return
        try:
            with fetch.client.open(fetch.listing, file.path, byte_range(done)) as answer:
                _receive(answer, target, done, job, fetch)
        except (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError) as error:
            if _written(target) == done:
                raise
            raise _BrokenOff(f"the connection broke off ({type(error).__name__})") from error


def _receive(
    answer: "httpx.Response", target: BinaryIO, done: int, job: Fetch, fetch: FileFetch
) -> None:
    receive(answer, target, done, job, fetch.label)
    if (size := _written(target)) != fetch.file.size:
        raise _BrokenOff(f"{size:,} of {fetch.file.size:,} bytes arrived")


def _written(target: BinaryIO) -> int:
    target.flush()
    return os.fstat(target.fileno()).st_size


def _check_hash(fetch: FileFetch, part: Path) -> None:
    """Refuses a file that is not the one in the listing, and leaves nothing of it."""
    found = _hash_of(part, fetch)
    if found != fetch.file.oid:
        part.unlink()
        kind = "SHA-256" if fetch.file.is_large else "git object id"
        raise PullError(
            f"{fetch.label}: its {kind} is {found}, not {fetch.file.oid}; the file was thrown away"
        )
    if fetch.file.path.lower().endswith(".gguf"):
        _check_magic(fetch, part)


def _check_magic(fetch: FileFetch, part: Path) -> None:
    with part.open("rb") as file:
        magic = file.read(len(_MAGIC))
    if magic != _MAGIC:
        part.unlink()
        raise ModelFileError(f"{fetch.listing.repository}/{fetch.file.path} is not a GGUF file")


def _hash_of(path: Path, fetch: FileFetch) -> str:
    """The hash by which the hub names the content: SHA-256, or that of a git object."""
    size = path.stat().st_size
    digest = hashlib.sha256() if fetch.file.is_large else hashlib.sha1(usedforsecurity=False)
    if not fetch.file.is_large:
        digest.update(b"blob %d\0" % size)
    done = 0
    with path.open("rb") as file:
        while block := file.read(COPY_BYTES):
            digest.update(block)
            done += len(block)
            fetch.progress(done, size, f"checking {fetch.label}")
    return digest.hexdigest()


def _check_space(fetch: FileFetch, part: Path) -> None:
    needed = max(fetch.file.size - _size(part), 0)
    free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise no_space(fetch.label, needed, free, fetch.cache.folder)


def no_space(what: str, needed: int, free: int, folder: Path) -> PullError:
    """The error for a disk that is too full. Sizes are in bytes."""
    return PullError(
        f"{what} needs {needed / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are free."
        " Make room (lockgate list, lockgate rm), or name another folder in HF_HUB_CACHE"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
