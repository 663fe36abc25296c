"""Names of models that are not in the catalogue: repositories of the hub, and files at a URL."""

import re
from pathlib import PurePosixPath
from typing import NoReturn
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from runtime.errors import ModelFileError, ModelNotFound

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Ends of names of files that may run any code when they are read."""

HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]|/(?=[A-Za-z0-9]))*")
_VIEWS = ("resolve", "blob", "raw", "tree")
_FORBIDDEN = frozenset('\\:*?"<>|')
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)


class HubName(Struct, frozen=True, kw_only=True):
    """What a name says of a repository: its id, and the quantisation (`tag`) or the path of the
    `file` in it, or neither. `revision` is a branch, a tag or a commit; "" is the main branch.
    `is_certain` says that the name cannot be meant as a path."""

    repository: str
    tag: str = ""
    file: str = ""
    revision: str = ""
    is_certain: bool = False

    @property
    def text(self) -> str:
        """The short form of the name."""
        tag, file = f":{self.tag}" if self.tag else "", f"/{self.file}" if self.file else ""
        return f"{self.repository}{tag or file}"


class WebName(Struct, frozen=True, kw_only=True):
    """A .gguf file at a URL that is not the hub's."""

    url: str
    file: str


def parse_name(text: str, endpoint: str = "") -> HubName | WebName | None:
    """What the name means; None if it is the name of a path or of the catalogue. `endpoint` is the
    URL of a hub whose files have names there.

    Raises ModelNotFound for a name that is nearly one, ModelFileError for what is never loaded.
    """
    scheme, _, rest = text.partition("://")
    if rest and scheme.lower() in ("http", "https"):
        return _from_url(text, endpoint)
    host, slash, path = text.partition("/")
    if slash and host.lower() in HUB_HOSTS:
        return _from_hub_path(path, text)
    return _short(text)


def is_safe_path(path: str) -> bool:
    """Whether a file of a repository may have this path below a folder, on every system."""
    parts = path.split("/")
    return bool(path) and path.isprintable() and all(map(_is_safe_part, parts))


def _is_safe_part(part: str) -> bool:
    if part in ("", ".", "..") or part[-1] in " ." or _FORBIDDEN & set(part):
        return False
    return not _DEVICES.fullmatch(part)


def refuse_pickle(path: str) -> None:
    """Raises ModelFileError for a file that may run code when it is read."""
    if PurePosixPath(path).suffix.lower() in PICKLES:
        raise ModelFileError(
            f"{path} is a pickle, which may run any code when it is read, and is never loaded."
            " Name a .gguf file, or a repository with .safetensors files"
        )


def _from_url(text: str, endpoint: str) -> HubName | WebName:
    try:
        parts = urlsplit(text)
        host, path = (parts.hostname or "").lower(), unquote(parts.path)
        is_whole = bool(host) and parts.port != 0
    except ValueError:
        is_whole, host, path = False, "", ""
    if not is_whole or not text.isprintable():
        raise ModelNotFound(f"{_without_password(text)} is not a URL")
    if host in HUB_HOSTS:
        return _from_hub_path(path.lstrip("/"), text)
    below = _below(endpoint, text)
    if below is not None:
        return _from_hub_path(unquote(urlsplit(below).path), text)
    refuse_pickle(path)
    file = path.rpartition("/")[2]
    if not file.lower().endswith(".gguf") or not is_safe_path(file):
        raise ModelNotFound(f"{_without_password(text)} is not the URL of a .gguf file")
    return WebName(url=text, file=file)


def _below(endpoint: str, url: str) -> str | None:
    """What follows the endpoint in the URL; None if it is another server's."""
    if not endpoint:
        return None
    return url[len(endpoint) + 1 :] if url.startswith(f"{endpoint}/") else None


def _from_hub_path(path: str, text: str) -> HubName:
    parts = path.rstrip("/").split("/")
    if len(parts) > 3 and parts[2] in _VIEWS:
        return _of_view(parts, text)
    name = _short(path.rstrip("/"))
    if name is None:
        _refuse(text)
    return HubName(repository=name.repository, tag=name.tag, file=name.file, is_certain=True)


def _of_view(parts: list[str], text: str) -> HubName:
    """The name in an address of the hub's pages: USER/REPO/VIEW/REVISION/FILE."""
    repository, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
    if not _is_repository(repository) or not _REVISION.fullmatch(revision):
        _refuse(text)
    if parts[2] == "tree":
        file = ""
    elif not file:
        _refuse(text)
    if file:
        _check_file(file, text)
    return HubName(repository=repository, file=file, revision=revision, is_certain=True)


def _short(text: str) -> HubName | None:
    """USER/REPO, USER/REPO:TAG or USER/REPO/FILE; None for anything else."""
    parts = text.split("/")
    if len(parts) < 2:
        return None
    if len(parts) == 2:
        return _with_tag(text)
    repository, file = "/".join(parts[:2]), "/".join(parts[2:])
    if not _is_repository(repository) or not PurePosixPath(file).suffix:
        return None
    if not file.lower().endswith((".gguf", ".safetensors", *PICKLES)):
        return None
    _check_file(file, text)
    return HubName(repository=repository, file=file)


def _with_tag(text: str) -> HubName | None:
    repository, colon, tag = text.partition(":")
    if not _is_repository(repository) or (colon and not _TAG.fullmatch(tag)):
        return None
    if tag.lower() == "latest":
        tag = ""
    if tag.lower().endswith(".gguf"):
        return HubName(repository=repository, file=tag, is_certain=True)
    is_file = repository.lower().endswith((".gguf", *PICKLES))
    return None if is_file else HubName(repository=repository, tag=tag, is_certain=bool(colon))


def _is_repository(text: str) -> bool:
    if "--" in text or ".." in text or text.endswith(".git"):
        return False
    return _REPOSITORY.fullmatch(text) is not None


def _check_file(file: str, text: str) -> None:
    refuse_pickle(file)
    if not is_safe_path(file):
        raise ModelNotFound(f"{text!r}: {file!r} is no path of a file in a repository")
    if file.lower().endswith(".safetensors"):
        raise ModelFileError(
            f"{text} is one file of a checkpoint folder. Name the repository alone, and all that"
            " belongs to the folder is fetched"
        )
    if not file.lower().endswith(".gguf"):
        raise ModelNotFound(f"{text} is not a .gguf file")


def _refuse(text: str) -> NoReturn:
    raise ModelNotFound(
        f"{_without_password(text)} names no model of the hub. Write USER/REPO,"
        " USER/REPO:QUANTISATION or USER/REPO/FILE.gguf"
    )


def _without_password(url: str) -> str:
    return re.sub("//[^/]*@", "//…@", url)
