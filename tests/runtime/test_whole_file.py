"""Files that are replaced in one step."""

import os
from pathlib import Path

import pytest

from runtime.whole_file import write_whole
from tests.kit.platform import IS_WINDOWS


def test_a_file_is_made_with_its_folder_and_replaced(tmp_path: Path):
    file = tmp_path / "a" / "b.json"
    for data in (b"1", b"22"):
        write_whole(file, data)
        assert file.read_bytes() == data
    assert os.listdir(file.parent) == [file.name]


def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "b.json"
    write_whole(file, b"old")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "it is open")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        write_whole(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [file.name]


@pytest.mark.skipif(not IS_WINDOWS, reason="POSIX replaces files that are open")
def test_a_file_that_somebody_reads_stays(tmp_path: Path):
    file = tmp_path / "b.json"
    write_whole(file, b"old")
    with file.open("rb") as reader, pytest.raises(PermissionError):
        write_whole(file, b"new")
    assert reader.closed
    assert [os.listdir(tmp_path), file.read_bytes()] == [[file.name], b"old"]
