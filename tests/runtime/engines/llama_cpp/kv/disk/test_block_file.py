"""Files of blocks: what was written is read, or nothing is."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.engines.llama_cpp.kv.disk.block_file import read_block, write_block
from runtime.engines.llama_cpp.kv.disk.block_key import KEY_BYTES, block_keys

KEY, OTHER_KEY = b"k" * KEY_BYTES, b"o" * KEY_BYTES
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

damages = st.one_of(
    st.tuples(st.just("overwritten"), st.integers(0, 400), st.binary(min_size=1, max_size=80)),
    st.tuples(st.just("cut"), st.integers(0, 400), st.just(b"")),
    st.tuples(st.just("longer"), st.just(0), st.binary(min_size=1, max_size=80)),
    st.tuples(st.just("without"), st.integers(0, 400), st.binary(min_size=1, max_size=80)),
)


def damaged(content: bytes, damage: tuple[str, int, bytes]) -> bytes:
    kind, place, more = damage
    if kind == "overwritten":
        return content[:place] + more + content[place + len(more) :]
    if kind == "cut":
        return content[:place]
    if kind == "longer":
        return content + more
    return content[:place] + content[place + len(more) :]


@in_one_folder
@given(data=st.binary(max_size=300))
def test_what_was_written_is_read(tmp_path: Path, data: bytes):
    path = tmp_path / "block"
    size = write_block(path, KEY, data)

    assert read_block(path, KEY) == data
    assert path.stat().st_size == size
    assert os.listdir(tmp_path) == ["block"]


@in_one_folder
@given(data=st.binary(max_size=300), damage=damages)
def test_what_is_damaged_anywhere_is_not_read(
    tmp_path: Path, data: bytes, damage: tuple[str, int, bytes]
):
    path = tmp_path / "block"
    write_block(path, KEY, data)
    content = path.read_bytes()
    path.write_bytes(changed := damaged(content, damage))

    assert read_block(path, KEY) == (data if changed == content else None)


def test_a_block_under_the_name_of_another_one_is_not_read(tmp_path: Path):
    write_block(tmp_path / "block", OTHER_KEY, b"data")

    assert read_block(tmp_path / "block", KEY) is None


@pytest.mark.posix("permissions")
def test_nobody_else_may_read_a_block(tmp_path: Path):
    write_block(tmp_path / "block", KEY, b"data")

    assert stat.S_IMODE((tmp_path / "block").stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_nothing(tmp_path: Path):
    (tmp_path / "block" / "folder").mkdir(parents=True)

    with pytest.raises((IsADirectoryError, PermissionError)):
        write_block(tmp_path / "block", KEY, b"data")

    assert os.listdir(tmp_path) == ["block"]


tokens = st.lists(st.integers(0, 3), max_size=12)
prefixes = st.tuples(st.sampled_from([b"a", b"b"]), st.sampled_from(["", "a", "b", "ab"]), tokens)


@given(one=prefixes, other=prefixes, size=st.integers(1, 5))
def test_keys_are_equal_where_all_that_they_stand_for_is(
    one: tuple[bytes, str, list[int]], other: tuple[bytes, str, list[int]], size: int
):
    keys, other_keys = block_keys(*one, size), block_keys(*other, size)

    assert len(keys) == len(one[2]) // size
    for number, (key, other_key) in enumerate(zip(keys, other_keys, strict=False)):
        end = size * (number + 1)
        alike = (*one[:2], one[2][:end]) == (*other[:2], other[2][:end])
        assert (key == other_key) == alike
