"""Where the repository is."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def search_path(*folders: Path) -> str:
    """PYTHONPATH for a process that imports from these folders, from the repository, and from where
    this process was told to."""
    told = [path for path in [os.environ.get("PYTHONPATH")] if path]
    return os.pathsep.join([*map(str, folders), str(ROOT), *told])
