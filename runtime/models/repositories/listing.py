"""What a repository holds: which of its files are models, and which one a name means."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from msgspec import Struct

from runtime.errors import ModelFileError, ModelNotFound, PullError
from runtime.models.gguf import SPLIT_NAME, part_names
from runtime.models.repositories.names import PICKLES, HubName, is_safe_path, refuse_pickle

Form = Literal["gguf", "folder", "any"]
"""What an engine loads: a GGUF file, a checkpoint folder, or either."""

_DRAFTS = ("mtp-", "eagle3-", "dflash-", "dspark-")
_QUANTISATION = re.compile(
    r"(?:^|[._-])((?:UD-)?(?:I?Q\d+(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP\d\w*|NVFP4|BF16|F16|F32|FP16|FP32))$",
    re.IGNORECASE,
)
_PREFERRED = ("Q4_K_M", "Q8_0")
_FOLDER_ENDS = (".safetensors", ".json", ".jinja", ".txt", ".model", ".tiktoken")
_FOLDER_NAMES = ("readme.md", "license", "license.md", "notice")
_CONSOLIDATED = "consolidated"
_MARGIN_SHARE = 0.05
_MARGIN_BYTES = 128_000_000


class RemoteFile(Struct, frozen=True, kw_only=True):
    """A file of a repository. `size` is in bytes. `oid` is the SHA-256 of a large file, and the id
    of the git object of a small one, whose `is_large` is false."""

    path: str
    size: int
    oid: str
    is_large: bool


class Listing(Struct, frozen=True, kw_only=True):
    """All files of a repository at a commit, which the branch or tag `ref` points to; `ref` is ""
    if the commit was named itself."""

    repository: str
    commit: str
    ref: str
    files: tuple[RemoteFile, ...]


class Choice(Struct, frozen=True, kw_only=True):
    """The files that a name means, the first of them first. `quantisation` is "" for a folder and
    where a file's name does not say it."""

    listing: Listing
    files: tuple[RemoteFile, ...]
    quantisation: str
    is_folder: bool

    @property
    def num_bytes(self) -> int:
        """The size of all its files."""
        return sum(file.size for file in self.files)


def memory_needed(num_bytes: int) -> int:
    """The least memory, in bytes, in which weights of this size run: there must be some for the
    context."""
    return num_bytes + max(_MARGIN_BYTES, int(num_bytes * _MARGIN_SHARE))


def quantisation_of(path: str) -> str:
    """The quantisation that the name of a file ends in, such as "Q4_K_M"; "" if there is none."""
    stem = SPLIT_NAME.sub("", path.rpartition("/")[2])
    found = _QUANTISATION.search(re.sub(r"\.gguf$", "", stem, flags=re.IGNORECASE))
    return found.group(1).upper() if found else ""


def is_model(path: str) -> bool:
    """Whether a file is a model, by its name: no projector, no importance matrix, no draft, and of
    a split one the first part."""
    name = path.rpartition("/")[2].lower()
    if not name.endswith(".gguf") or "mmproj" in name or name.startswith(_DRAFTS):
        return False
    if "imatrix" in name and not quantisation_of(path):
        return False
    part = SPLIT_NAME.search(name)
    return part is None or int(part.group(1)) == 1


def matching(paths: Iterable[str], name: HubName) -> list[str]:
    """The models among the paths that the name can mean, the best first."""
    models = sorted(filter(is_model, paths))
    if name.file:
        wanted = name.file.lower()
        found = [path for path in models if path.lower() == wanted]
        return found or [path for path in models if path.lower().endswith(f"/{wanted}")]
    if name.tag:
        pattern = re.compile(re.escape(name.tag) + "[.-]", re.IGNORECASE)
        tag = name.tag.upper()
        found = [path for path in models if pattern.search(path)]
        return sorted(found, key=lambda path: quantisation_of(path) != tag)
    return sorted(models, key=_preference)


def _preference(path: str) -> int:
    kind = quantisation_of(path)
    return _PREFERRED.index(kind) if kind in _PREFERRED else len(_PREFERRED)


def choose(listing: Listing, name: HubName, *, form: Form = "any", memory: int = 0) -> Choice:
    """The files that the name means in this repository.

    Without a quantisation it is Q4_K_M, then Q8_0, then the largest, of those that run in `memory`
    bytes; 0 is no limit. Raises ModelNotFound, with what there is; ModelFileError for what is no
    model; PullError if it needs more memory.
    """
    if name.file:
        _check_kind(name.file)
    models = [file.path for file in listing.files if is_model(file.path)]
    if not name.tag and not name.file and (form == "folder" or not models) and _is_folder(listing):
        return _checked(_folder(listing))
    found = [_gguf(listing, path) for path in matching(models, name)]
    if not found:
        raise _nothing(listing, name, models)
    return _checked(_fitting(found, name, memory))


def _check_kind(path: str) -> None:
    """Raises ModelFileError for a file beside a model, and for a later part of a split one."""
    base = path.rpartition("/")[2].lower()
    if is_model(path):
        return
    kind = "the importance matrix of a model" if "imatrix" in base else "a draft for a model"
    if "mmproj" in base:
        kind = "the projector of a model for images"
    elif SPLIT_NAME.search(base):
        kind = f"a later part of a split file; name {part_names(path)[0]}"
    raise ModelFileError(f"{path} is not a model but {kind}")


def _gguf(listing: Listing, path: str) -> Choice:
    known = {file.path: file for file in listing.files}
    parts = part_names(path)
    missing = [part for part in parts if part not in known]
    if missing:
        raise ModelFileError(f"{listing.repository} lacks {missing[0]}, a part of {path}")
    return Choice(
        listing=listing,
        files=tuple(known[part] for part in parts),
        quantisation=quantisation_of(path),
        is_folder=False,
    )


def _is_folder(listing: Listing) -> bool:
    return any(file.path == "config.json" for file in listing.files)


def _folder(listing: Listing) -> Choice:
    files = [file for file in listing.files if _belongs(file.path)]
    plain = [file for file in files if not file.path.startswith(_CONSOLIDATED)]
    weights = [file for file in plain if file.path.endswith(".safetensors")]
    if not weights:
        _refuse_pickles(listing)
        raise ModelFileError(f"{listing.repository} has neither .gguf nor .safetensors files")
    files = sorted(plain, key=lambda file: file.size)
    return Choice(listing=listing, files=tuple(files), quantisation="", is_folder=True)


def _belongs(path: str) -> bool:
    """Whether a checkpoint folder needs the file: those in folders are of other formats."""
    name = path.lower()
    return "/" not in name and (name.endswith(_FOLDER_ENDS) or name in _FOLDER_NAMES)


def _refuse_pickles(listing: Listing) -> None:
    for file in listing.files:
        if file.path.lower().endswith(PICKLES) and file.path != "training_args.bin":
            refuse_pickle(f"{listing.repository}/{file.path}")


def _fitting(found: Sequence[Choice], name: HubName, memory: int) -> Choice:
    def fits(choice: Choice) -> bool:
        return not memory or memory_needed(choice.num_bytes) <= memory

    if name.tag or name.file:
        found = found[:1]
    best = found[0]
    if not fits(best) or _preference(best.files[0].path) == len(_PREFERRED):
        best = max(filter(fits, found), key=lambda choice: choice.num_bytes, default=best)
    if not fits(best):
        raise _too_large(min(found, key=lambda choice: choice.num_bytes), memory, fits)
    return best


def _too_large(choice: Choice, memory: int, fits: Callable[[Choice], bool]) -> PullError:
    listing, path = choice.listing, choice.files[0].path
    others = (file.path for file in listing.files if is_model(file.path))
    tried = [_try(listing, other) for other in others]
    fitting = [other for other in tried if other and fits(other)]
    needed = _gigabytes(memory_needed(choice.num_bytes))
    advice = f" These fit: {_names(fitting)}." if fitting else " No other one in it fits."
    return PullError(
        f"{listing.repository}/{path} needs {needed} of memory, and {_gigabytes(memory)} may be"
        f" used here.{advice} To download it all the same: lockgate pull --any-size"
    )


def _try(listing: Listing, path: str) -> Choice | None:
    try:
        return _gguf(listing, path)
    except ModelFileError:
        return None


def _names(choices: Sequence[Choice]) -> str:
    return ", ".join(choice.quantisation or choice.files[0].path for choice in choices)


def _nothing(listing: Listing, name: HubName, models: Sequence[str]) -> ModelNotFound:
    if not models:
        _refuse_pickles(listing)
        has = "no .gguf file that is a model"
        if _is_folder(listing):
            has += f"; it is a checkpoint folder, and its name is {listing.repository} alone"
        return ModelNotFound(f"{listing.repository} has {has}")
    labels = sorted({quantisation_of(path) or path for path in models})
    if name.file:
        labels = sorted(models)
    wanted = f"no file {name.file}" if name.file else f"no quantisation {name.tag}"
    return ModelNotFound(f"{listing.repository} has {wanted}. It has: {', '.join(labels)}")


def _checked(choice: Choice) -> Choice:
    """Raises PullError for paths that lead out of a folder."""
    for file in choice.files:
        if not is_safe_path(file.path):
            raise PullError(f"{choice.listing.repository} has the unsafe file name {file.path!r}")
    return choice


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
