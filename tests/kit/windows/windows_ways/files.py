"""What the file system of Windows refuses, for what Lockgate's own code asks of it: a file that is
open is not removed, renamed or replaced, and some names are none."""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_OURS = re.compile(r"/(gateway|runtime|convert)/[\w/]+\.py$")
_BETWEEN = re.compile(r"/(pathlib|shutil|tempfile|os|contextlib|weakref|windows_ways/files)\.py$")
_ILLEGAL = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_EXCEPTIONS = frozenset((".", "..", ""))


def refuse(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook of Python: an exception is the answer to whoever asked."""
    check = _CHECKS.get(event)
    if check is not None and _we_ask():
        check(*args)


def _we_ask() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None and _BETWEEN.search(frame.f_code.co_filename):
        frame = frame.f_back
    return frame is not None and bool(_OURS.search(frame.f_code.co_filename))


def _on_open(path: Any, mode: Any, flags: int) -> None:
    if isinstance(path, (str, bytes)) and not os.fsdecode(path).startswith(("/dev/", "/proc/")):
        _check_name(path)


def _on_mkdir(path: Any, mode: int, folder: int) -> None:
    _check_name(path)


def _on_remove(path: Any, folder: int) -> None:
    _check_unused(path, folder)


def _on_rename(source: Any, target: Any, *folders: int) -> None:
    _check_name(target)
    _check_unused(source)
    _check_unused(target)


_CHECKS: dict[str, Callable[..., None]] = {
    "open": _on_open,
    "os.mkdir": _on_mkdir,
    "os.remove": _on_remove,
    "os.rmdir": _on_remove,
    "os.rename": _on_rename,
}


def _check_name(path: Any) -> None:
    parts = os.fsdecode(path).split("/")
    wrong = [
        part
        for part in parts
        if part not in _EXCEPTIONS and (_ILLEGAL.search(part) or _DEVICES.fullmatch(part))
    ]
    if wrong:
        message = "The filename, directory name, or volume label syntax is incorrect"
        raise OSError(errno.EINVAL, message, path)


def _check_unused(path: Any, folder: int = -1) -> None:
    base = f"/proc/self/fd/{folder}" if folder >= 0 else "."
    full = os.path.realpath(os.path.join(base, os.fsdecode(path)))
    if any(name == full or name.startswith(f"{full}/") for name in _open_files()):
        message = "The process cannot access the file because it is being used by another process"
        raise PermissionError(errno.EACCES, message, path)


def _open_files() -> Iterator[str]:
    """Those of this process, of the processes that it started and of the one that started it."""
    for pid in (os.getpid(), os.getppid(), *_children(os.getpid())):
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    yield os.readlink(f"/proc/{pid}/fd/{descriptor}")
        with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
            yield from {f"/{line.rstrip().partition('/')[2]}" for line in maps if "/" in line}


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        children = Path(f"/proc/{pid}/task/{thread}/children")
        with contextlib.suppress(OSError):
            found += map(int, children.read_text(encoding="ascii").split())
    return found
