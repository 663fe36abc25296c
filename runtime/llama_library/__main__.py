"""Prints a report on every llama.cpp library that is installed, as JSON. None is loaded in this
process; one that nobody has checked yet is checked in another."""

import sys

import msgspec

from runtime.llama_library.installed import installed_families, library_version
from runtime.llama_library.self_check.verdicts import problem_of


def main() -> None:
    """Entry point."""
    reports = [
        {"family": each, "version": library_version(each), "problem": problem_of(each)}
        for each in installed_families()
    ]
    sys.stdout.buffer.write(msgspec.json.encode(reports))


if __name__ == "__main__":
    main()
