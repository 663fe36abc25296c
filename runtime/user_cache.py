"""The folders of the user that belong to this program."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where what can be made anew is kept: models, and what was learned of this machine. Nobody has
    made sure that it exists."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "lockgate"


def data_folder() -> Path:
    """Where what cannot be made anew is kept, such as stored answers: `$LOCKGATE_DATA`, else a
    folder beside other programs' data. Nobody has made sure that it exists."""
    if own := os.environ.get("LOCKGATE_DATA"):
        return Path(own).expanduser()
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "lockgate"
