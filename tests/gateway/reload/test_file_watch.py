"""Files that change, are replaced, half written and gone."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reload.file_watch import FileWatch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.toml"
    file.write_text("first")
    return file


def settled(file: Path) -> FileWatch:
    watch = FileWatch()
    watch.changed([file])
    assert watch.changed([file]) == {file}
    return watch


def replace(file: Path) -> None:
    new = file.with_suffix(".new")
    new.write_text(file.read_text())
    before = file.stat().st_mtime_ns
    os.utime(new, ns=(before, before))
    new.replace(file)


CHANGES = {
    "longer": lambda file: file.write_text("longer than before"),
    "replaced by one of the same size and time": replace,
    "touched": lambda file: os.utime(file, ns=(1, 1)),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_told_once_when_the_file_rests(file: Path, change):
    watch = settled(file)
    assert watch.changed([file]) == set()
    change(file)
    assert watch.changed([file]) == set()
    assert watch.changed([file]) == {file}
    assert watch.changed([file]) == set()


def test_a_file_that_is_being_written_is_left_alone(file: Path):
    watch = settled(file)
    for size in range(20, 30):
        file.write_text("x" * size)
        assert watch.changed([file]) == set()
    assert watch.changed([file]) == {file}


def test_a_file_that_comes_later_is_told(tmp_path: Path):
    file = tmp_path / "later.toml"
    watch = settled(file)
    file.write_text("now")
    watch.changed([file])
    assert watch.changed([file]) == {file}


@given(st.lists(st.sampled_from(["write", "look"]), max_size=30))
def test_the_last_state_is_always_told(tmp_path_factory: pytest.TempPathFactory, steps: list[str]):
    """Whatever was written and looked at between: who reads at each answer knows the last text."""
    file = tmp_path_factory.mktemp("files") / "keys.toml"
    watch, read, size = FileWatch(), "", 0
    for step in [*steps, "look", "look"]:
        if step == "write":
            size += 1
            file.write_text("x" * size)
        elif file in watch.changed([file]):
            read = file.read_text() if file.exists() else ""
    assert read == "x" * size
