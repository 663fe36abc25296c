"""The folder of blocks: its limits, its other users, and disks that refuse."""

import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.engines.llama_cpp.kv.disk import block_file, store, sweep
from runtime.engines.llama_cpp.kv.disk.block_key import KEY_BYTES
from runtime.engines.llama_cpp.kv.disk.names import UNFINISHED, block_name, folder_name
from runtime.engines.llama_cpp.kv.disk.store import BlockStore
from runtime.engines.llama_cpp.kv.disk.sweep import DAY, Limits
from runtime.engines.llama_cpp.kv.disk.writer import BlockWriter
from tests.kit.disk_tiers import MODEL, PATIENCE, block_files

DATA = b"d" * 1000


def key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


def opened(folder: Path, *, model: bytes = MODEL, gb: float | None = 1, days: float = 0):
    most = None if gb is None else int(gb * 1e9)
    return BlockStore(folder, model, Limits(most, days * DAY))


def age(path: Path, days: float) -> None:
    used = time.time() - days * DAY
    os.utime(path, (used, used))


def path_of(folder: Path, number: int) -> Path:
    [path] = folder.rglob(f"{key(number).hex()}*")
    return path


def test_a_block_is_there_after_a_restart(tmp_path: Path):
    opened(tmp_path).write(key(1), DATA)
    again = opened(tmp_path)

    assert again.has(key(1))
    assert again.read(key(1)) == DATA
    assert not again.has(key(2))
    assert again.read(key(2)) is None
    assert again.take_counts().num_errors == 0


def test_a_block_that_proves_damaged_while_the_folder_is_looked_through_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    blocks = opened(tmp_path)
    blocks.write(key(1), DATA)
    blocks.write(key(2), DATA)
    path_of(tmp_path, 1).write_bytes(b"damaged")
    names = store._keys

    def seen_before(folder: Path) -> list[bytes]:
        found = list(names(folder))
        assert blocks.read(key(1)) is None
        return found

    monkeypatch.setattr(store, "_keys", seen_before)
    blocks.sweep_if_due()

    assert (blocks.has(key(1)), blocks.has(key(2))) == (False, True)
    blocks.write(key(1), DATA)
    assert blocks.read(key(1)) == DATA


@pytest.mark.posix("permissions")
def test_nobody_else_may_look_into_the_folder(tmp_path: Path):
    opened(tmp_path / "cache" / "prefixes").write(key(1), DATA)

    for folder in ("cache/prefixes", f"cache/prefixes/{folder_name(MODEL)}"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700


def test_those_not_used_for_longest_leave_first_whatever_model_they_are_of(tmp_path: Path):
    old, new = opened(tmp_path, model=b"o" * 32), opened(tmp_path, gb=6e-6)
    for number in range(4):
        old.write(key(number), DATA)
        age(path_of(tmp_path, number), 9 - number)
    for number in range(4, 7):
        new.write(key(number), DATA)
    new.sweep_if_due()

    left = [number for number in range(7) if list(tmp_path.rglob(f"{key(number).hex()}*"))]
    assert left == [3, 4, 5, 6]
    assert sum(path.stat().st_size for path in block_files(tmp_path)) <= 6000


def test_what_was_read_stays_longer(tmp_path: Path):
    blocks = opened(tmp_path, gb=3.3e-6)
    for number in range(4):
        blocks.write(key(number), DATA)
        age(path_of(tmp_path, number), 9 - number)
    blocks.read(key(0))
    blocks.sweep_if_due()

    assert blocks.has(key(0))
    assert not blocks.has(key(1))


def test_what_nobody_has_used_for_days_leaves(tmp_path: Path):
    blocks = opened(tmp_path, days=30)
    for number, days in enumerate([29, 31]):
        blocks.write(key(number), DATA)
        age(path_of(tmp_path, number), days)
    blocks.sweep_if_due()

    assert [blocks.has(key(number)) for number in range(2)] == [True, False]


def test_a_block_of_a_wrong_clock_s_future_ages_from_now_on(tmp_path: Path):
    blocks = opened(tmp_path, days=30)
    blocks.write(key(1), DATA)
    age(path_of(tmp_path, 1), -4000)
    blocks.sweep_if_due()

    assert blocks.has(key(1))
    assert path_of(tmp_path, 1).stat().st_mtime <= time.time() + 1


def test_files_that_a_killed_process_left_unfinished_leave(tmp_path: Path):
    blocks = opened(tmp_path)
    blocks.write(key(1), DATA)
    old, new = (f"{block_name(key(2))}.{number}{UNFINISHED}" for number in ("1-1", "2-2"))
    for name, days in ((old, 1.0), (new, 0.0)):
        part = tmp_path / folder_name(MODEL) / name
        part.write_bytes(DATA)
        age(part, days)
    blocks.sweep_if_due()

    names = set(os.listdir(tmp_path / folder_name(MODEL)))
    assert names == {path_of(tmp_path, 1).name, new}


def test_folders_of_models_without_blocks_leave_and_others_files_stay(tmp_path: Path):
    (tmp_path / folder_name(b"old model of this server")).mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    mine = tmp_path / "notes" / "mine.block"
    mine.write_text("mine", encoding="utf-8")
    age(mine, 1000)
    opened(tmp_path, gb=0, days=1).sweep_if_due()

    assert sorted(os.listdir(tmp_path)) == ["empty", "notes"]
    assert mine.exists()


def test_auto_takes_a_tenth_of_a_small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=20_000)
    monkeypatch.setattr(sweep.shutil, "disk_usage", lambda _: usage)
    blocks = opened(tmp_path, gb=None)
    for number in range(10):
        blocks.write(key(number), DATA)
        blocks.sweep_if_due()

    assert 1000 < sum(path.stat().st_size for path in block_files(tmp_path)) <= 3200


def test_two_servers_use_one_folder_at_once(tmp_path: Path):
    servers = [opened(tmp_path, gb=3e-5), opened(tmp_path, gb=3e-5)]
    wrong: list[int] = []

    def serve(blocks: BlockStore, start: int) -> None:
        for number in range(start, start + 60):
            blocks.write(key(number % 50), DATA + key(number % 50))
            blocks.sweep_if_due()
            if blocks.read(key(number * 7 % 50)) not in (None, DATA + key(number * 7 % 50)):
                wrong.append(number)

    threads = [
        threading.Thread(target=serve, args=(blocks, 20 * rank))
        for rank, blocks in enumerate(servers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert [blocks.take_counts().num_errors for blocks in servers] == [0, 0]


class Disk:
    """What happens before a file is opened to be written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: OSError | None = None
        self.delay: Callable[[], None] = lambda: None
        self._open = block_file._open_private
        monkeypatch.setattr(block_file, "_open_private", self.open)

    def open(self, path: str, flags: int) -> int:
        self.delay()
        if self.error is not None:
            raise self.error
        return self._open(path, flags)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(store.log, "warning", lambda event, **_: told.append(event))
    return told


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_refuses_is_told_of_once_and_tried_again(
    tmp_path: Path,
    disk: Disk,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
):
    monkeypatch.setattr(store, "PAUSE_SECONDS", 0.0)
    blocks = opened(tmp_path)
    disk.error = OSError(number, os.strerror(number))
    for each in range(5):
        blocks.write(key(each), DATA)
    disk.error = None
    blocks.write(key(9), DATA)

    assert warnings == ["prefix_cache_disk_failed"]
    assert blocks.take_counts().num_errors == 5
    assert blocks.read(key(9)) == DATA
    assert not blocks.has(key(1))


def test_a_disk_that_has_refused_is_left_alone_for_a_while(tmp_path: Path, disk: Disk):
    blocks = opened(tmp_path)
    writer = BlockWriter(blocks, max_bytes=10_000)
    disk.error = OSError(errno.ENOSPC, "full")
    for number in range(5):
        writer.write(key(number), DATA)
        assert writer.flush(PATIENCE)
    writer.close(PATIENCE)

    assert blocks.take_counts().num_errors == 1
    assert writer.take_num_dropped() == 4


def test_what_does_not_fit_into_the_queue_is_dropped_and_counted(tmp_path: Path, disk: Disk):
    writer = BlockWriter(blocks := opened(tmp_path), max_bytes=3500)
    assert writer.flush(PATIENCE)
    waits, goes_on = threading.Event(), threading.Event()

    def wait() -> None:
        waits.set()
        assert goes_on.wait(PATIENCE)

    disk.delay = wait
    for number in range(6):
        writer.write(key(number), DATA)
    assert waits.wait(PATIENCE)
    assert not writer.takes(key(2)), "it is in the queue"
    assert writer.takes(key(5)), "it was dropped, and may come again"
    goes_on.set()
    writer.close(PATIENCE)

    assert [blocks.has(key(number)) for number in range(6)] == [True] * 3 + [False] * 3
    assert writer.take_num_dropped() == 3


def test_a_folder_that_is_removed_while_the_server_runs_is_made_again(
    tmp_path: Path, warnings: list[str]
):
    blocks = opened(tmp_path / "prefixes")
    blocks.write(key(1), DATA)
    shutil.rmtree(tmp_path / "prefixes")

    assert blocks.read(key(1)) is None
    assert not blocks.has(key(1))
    blocks.write(key(1), DATA)
    blocks.sweep_if_due()
    assert blocks.read(key(1)) == DATA
    assert warnings == []


def test_a_file_where_the_folder_should_be_is_told_of_once(tmp_path: Path, warnings: list[str]):
    (tmp_path / "prefixes").write_text("mine", encoding="utf-8")
    blocks = opened(tmp_path / "prefixes")
    blocks.write(key(1), DATA)

    assert blocks.read(key(1)) is None
    assert not blocks.can_write
    assert len(set(warnings)) == 1
    assert (tmp_path / "prefixes").read_text(encoding="utf-8") == "mine"


@given(names=st.lists(st.text("0123456789abcdefg.block", min_size=1, max_size=12), max_size=8))
def test_files_that_are_no_blocks_are_left_alone(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
):
    folder = tmp_path_factory.mktemp("blocks")
    (folder / folder_name(MODEL)).mkdir()
    kept = {name for name in names if name == name.strip(".")}
    for name in kept:
        (folder / folder_name(MODEL) / name).write_text(name, encoding="utf-8")
    blocks = opened(folder)
    blocks.write(key(1), DATA)

    assert blocks.read(key(1)) == DATA
    assert kept <= set(os.listdir(folder / folder_name(MODEL)))
