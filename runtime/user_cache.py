"""The folder in the user's cache that belongs to this program."""

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
