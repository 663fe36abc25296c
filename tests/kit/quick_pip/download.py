"""The program in pip's place. It needs nothing but the standard library, so it starts at once."""

import argparse
import shutil
import sys
from pathlib import Path

_SWITCHES = ("no-deps", "no-cache-dir", "disable-pip-version-check", "no-input", "quiet")


def main() -> int:
    """Copies the wheel that fits the requirement, or says as pip does that there is none."""
    options = argparse.ArgumentParser()
    for switch in _SWITCHES:
        options.add_argument(f"--{switch}", action="store_true")
    options.add_argument("--no-index", action="store_true", required=True)
    options.add_argument("--only-binary", required=True)
    options.add_argument("--find-links", type=Path, required=True)
    options.add_argument("-d", dest="folder", type=Path, required=True)
    options.add_argument("requirement")
    return _download(options.parse_args())


def _download(asked: argparse.Namespace) -> int:
    name, version = asked.requirement.replace("-", "_").split("==")
    found = sorted(asked.find_links.glob(f"{name}-{version}-*.whl"))
    if not found:
        print(f"ERROR: No matching distribution found for {asked.requirement}", file=sys.stderr)
        return 1
    asked.folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(found[0], asked.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
