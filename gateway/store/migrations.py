"""Numbered steps from an empty database to the present form of its tables."""

from importlib.resources import files

from msgspec import Struct


class Migration(Struct, frozen=True):
    """`script` leads from the version before to `version`, which begins at 1."""

    version: int
    script: str


def migrations(folder: str) -> list[Migration]:
    """The steps of a folder beside this module, in their order."""
    found = [
        Migration(int(file.name.partition(".")[0]), file.read_text(encoding="utf-8"))
        for file in (files("gateway.store") / folder).iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found, key=lambda each: each.version)
