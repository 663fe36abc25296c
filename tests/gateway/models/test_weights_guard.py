"""Which model files are held to the hash of the catalogue."""

from pathlib import Path

import pytest

from gateway.models.manager.factory import weights_guard
from runtime.errors import ModelFileError
from runtime.models.catalogue import shipped_catalogue

ENTRY = shipped_catalogue()[0]


@pytest.mark.parametrize(
    ("name_or_path", "file", "is_held"),
    [
        (ENTRY.name, ENTRY.file, True),
        (ENTRY.name, "another.gguf", False),  # an application that brings its own file
        (f"./{ENTRY.file}", ENTRY.file, False),  # named by its path
    ],
)
def test_file_of_the_catalogue_is_held_to_its_hash(
    tmp_path: Path, name_or_path: str, file: str, is_held: bool
) -> None:
    (tmp_path / file).write_bytes(b"something else")
    guard = weights_guard(name_or_path, str(tmp_path / file))
    assert guard is not None
    if is_held:
        with pytest.raises(ModelFileError, match=f"lockgate pull {ENTRY.name}"):
            guard.check()
    else:
        guard.check()
    guard.close()


@pytest.mark.parametrize("path", ["", "absent.gguf", "."])
def test_without_a_file_there_is_nothing_to_guard(path: str) -> None:
    assert weights_guard(ENTRY.name, path) is None
