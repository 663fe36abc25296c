"""A model file that changes: what the guard says before a start, and while an engine runs."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ModelFileError
from runtime.models.integrity.digest import NUM_SAMPLES, SAMPLE_BYTES, sample, sha256
from runtime.models.integrity.guard import WeightsGuard
from runtime.models.integrity.marks import FOLDER, mark, marked, state_of

CONTENT = bytes(range(256)) * 40_000
NAME = "some-model"

mapped = pytest.mark.posix("Windows protects mapped files itself")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(CONTENT)
    return path


def guard_of(file: Path, *, in_catalogue: bool) -> WeightsGuard:
    if not in_catalogue:
        return WeightsGuard(file)
    return WeightsGuard(file, name=NAME, expected=hashlib.sha256(CONTENT).hexdigest())


def overwritten(file: Path, start: int = 0, size: int = len(CONTENT)) -> None:
    """Written in place: the same file, of the same size."""
    with file.open("r+b") as target:
        target.seek(start)
        target.write(bytes(size))


def shortened(file: Path) -> None:
    os.truncate(file, 5000)


def renamed_over(file: Path, content: bytes) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, file)


def touched(file: Path) -> None:
    os.utime(file, ns=(1, 1))


@mapped
@pytest.mark.parametrize("in_catalogue", [True, False])
@pytest.mark.parametrize("damage", [overwritten, shortened])
def test_overwritten_file_is_noticed_while_it_is_served_and_before_the_next_start(
    file: Path, damage: Callable[[Path], None], in_catalogue: bool
) -> None:
    guard = guard_of(file, in_catalogue=in_catalogue)
    guard.check()
    assert guard.problem() == ""
    damage(file)
    assert str(file) in guard.problem()
    with pytest.raises(ModelFileError, match=r"m\.gguf"):
        guard.check()
    file.write_bytes(CONTENT)
    guard.check()
    assert guard.problem() == ""
    guard.close()


@pytest.mark.parametrize("in_catalogue", [True, False])
@pytest.mark.parametrize("change", [touched, lambda file: file.chmod(0o600)])
def test_same_content_is_no_problem(
    file: Path, change: Callable[[Path], None], in_catalogue: bool
) -> None:
    guard = guard_of(file, in_catalogue=in_catalogue)
    guard.check()
    change(file)
    assert guard.problem() == ""
    guard.check()
    guard.close()


@mapped
@pytest.mark.parametrize("in_catalogue", [True, False])
@pytest.mark.parametrize("change", [lambda file: renamed_over(file, b"new"), Path.unlink])
def test_renaming_leaves_the_running_engine_alone(
    file: Path, change: Callable[[Path], None], in_catalogue: bool
) -> None:
    guard = guard_of(file, in_catalogue=in_catalogue)
    guard.check()
    change(file)
    assert guard.problem() == guard.problem() == ""
    guard.close()


@mapped
def test_next_engine_takes_a_file_that_was_renamed_over_the_old_one(file: Path) -> None:
    guard = guard_of(file, in_catalogue=False)
    guard.check()
    renamed_over(file, b"another model")
    guard.check()
    overwritten(file, size=5)
    assert guard.problem()
    guard.close()


def test_catalogue_decides_what_its_file_holds(file: Path) -> None:
    renamed_over(file, bytes(len(CONTENT)))
    guard = guard_of(file, in_catalogue=True)
    for _ in range(2):
        with pytest.raises(ModelFileError, match=f"lockgate pull {NAME}"):
            guard.check()
        guard.forget()


@mapped
def test_operator_may_take_the_new_content(file: Path) -> None:
    guard = guard_of(file, in_catalogue=False)
    guard.check()
    overwritten(file)
    assert guard.problem()
    guard.forget()
    guard.check()
    assert guard.problem() == ""
    guard.close()


@pytest.mark.parametrize("in_catalogue", [True, False])
def test_absent_file_is_the_engines_to_report(file: Path, in_catalogue: bool) -> None:
    file.unlink()
    guard = guard_of(file, in_catalogue=in_catalogue)
    guard.check()
    assert guard.problem() == ""


def test_whole_file_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard_of(file, in_catalogue=True).check()
    monkeypatch.setattr("runtime.models.integrity.guard.sha256", lambda path: pytest.fail("read"))
    guard_of(file, in_catalogue=True).check()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"state": 1}', bytes(100)])
def test_mark_that_cannot_be_read_counts_for_nothing(file: Path, content: bytes) -> None:
    guard_of(file, in_catalogue=True).check()
    [written] = (file.parent / FOLDER).iterdir()
    written.write_bytes(content)
    assert marked(file, state_of(file.stat())) == ""
    guard_of(file, in_catalogue=True).check()


def test_folder_that_cannot_be_written_has_no_marks(file: Path) -> None:
    (file.parent / FOLDER).write_text("in the way")
    mark(file, state_of(file.stat()), "aa")
    assert marked(file, state_of(file.stat())) == ""
    guard_of(file, in_catalogue=True).check()


@given(
    size=st.integers(0, 3 * NUM_SAMPLES * SAMPLE_BYTES // 2),
    start=st.floats(0, 1),
    share=st.floats(0.02, 1),
)
def test_sample_sees_what_was_written_over_a_fiftieth_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, size: int, start: float, share: float
) -> None:
    file = tmp_path_factory.mktemp("sample") / "f"
    with file.open("wb") as target:
        target.truncate(size)
    before = sample(file)
    assert sample(file) == before
    length = max(1, int(size * share))
    offset = min(int(start * size), size - length)
    if size:
        with file.open("r+b") as target:
            target.seek(offset)
            target.write(b"\xff" * length)
        assert sample(file) != before


def test_whole_digest_is_sha256(file: Path) -> None:
    assert sha256(file) == hashlib.sha256(CONTENT).hexdigest()
