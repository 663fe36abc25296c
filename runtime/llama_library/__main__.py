"""Prints a report on llama.cpp libraries as JSON: on those that the arguments name (families or
files), without arguments on every family that is installed. None is loaded in this process; one
that nobody has checked yet is checked in another."""

import sys

import msgspec

from runtime.errors import LibraryUnusable
from runtime.llama_library.installed import installed_families, library_version
from runtime.llama_library.self_check.verdicts import problem_of


def main() -> None:
    """Entry point."""
    reports = [
        {"name": each, "version": _version(each), "problem": problem_of(each)}
        for each in sys.argv[1:] or installed_families()
    ]
    sys.stdout.buffer.write(msgspec.json.encode(reports))


def _version(name: str) -> str:
    try:
        return library_version(name)
    except (LibraryUnusable, OSError):
        return ""  # the problem says more


if __name__ == "__main__":
    main()
