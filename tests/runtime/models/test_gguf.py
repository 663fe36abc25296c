"""The header reader agrees with the gguf package and survives any damage."""

import struct
from array import array
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import ModelFileError
from runtime.models.gguf import GGUFFile, read_gguf
from tests.kit.models.tiny_model import write_out, write_tiny_model


@pytest.fixture(scope="module")
def header(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small file with a value of every type and one tensor."""
    path = tmp_path_factory.mktemp("gguf") / "header.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        getattr(writer, f"add_{kind}")(f"test.{kind}", 7)
    writer.add_float32("test.float32", 0.5)
    writer.add_float64("test.float64", 0.25)
    writer.add_bool("test.bool", True)
    writer.add_array("test.strings", ["a", "é", "日本"])
    writer.add_array("test.numbers", [1, -2, 3])
    writer.add_array("test.floats", [1.5, 2.5])
    writer.add_tensor("weights", np.arange(6, dtype=np.float32).reshape(2, 3))
    write_out(writer)
    return path.read_bytes()


def read(folder: Path, data: bytes) -> GGUFFile:
    path = folder / "damaged.gguf"
    path.write_bytes(data)
    return read_gguf(path)


def test_every_type_of_value(tmp_path: Path, header: bytes) -> None:
    file = read(tmp_path, header)

    assert (file.version, file.alignment, file.file_size) == (3, 32, len(header))
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        assert file.number(f"test.{kind}") == 7
    assert file.metadata["test.float32"] == 0.5
    assert file.metadata["test.float64"] == 0.25
    assert file.flag("test.bool") is True
    assert file.strings("test.strings") == ["a", "é", "日本"]
    assert file.integers("test.numbers") == array("i", [1, -2, 3])
    assert file.metadata["test.floats"] == array("f", [1.5, 2.5])


def test_the_tensor_table(tmp_path: Path, header: bytes) -> None:
    (tensor,) = read(tmp_path, header).tensors

    assert (tensor.name, tensor.shape, tensor.type, tensor.num_bytes) == (
        "weights",
        (3, 2),
        "F32",
        24,
    )
    data = header[tensor.offset : tensor.offset + tensor.num_bytes]
    assert np.frombuffer(data, np.float32).tolist() == [0, 1, 2, 3, 4, 5]


def test_the_gguf_package_reads_the_same(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)

    for name, field in theirs.fields.items():
        if not name.startswith("GGUF."):
            value = ours.metadata[name]
            assert (list(value) if isinstance(value, array) else value) == field.contents()
    for tensor, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert (tensor.name, tensor.offset, tensor.num_bytes) == (
            other.name,
            other.data_offset,
            other.n_bytes,
        )


def test_a_value_of_the_wrong_type_is_named(tmp_path: Path, header: bytes) -> None:
    file = read(tmp_path, header)

    for wrong in (
        lambda: file.text("test.bool"),
        lambda: file.number("test.bool"),
        lambda: file.flag("test.int8"),
        lambda: file.strings("test.numbers"),
        lambda: file.integers("test.strings"),
    ):
        with pytest.raises(ModelFileError, match="`test"):
            wrong()


def test_every_cut_is_refused(tmp_path: Path, header: bytes) -> None:
    for size in range(len(header) - 8):
        with pytest.raises(ModelFileError):
            read(tmp_path, header[:size])


DAMAGE = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80", b"\x09", b"\xff" * 8, b"\0" * 8]),
    ),
    min_size=1,
    max_size=4,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300
)
@given(damage=DAMAGE, share=st.floats(0, 1))
def test_damage_raises_nothing_else(
    damage: list[tuple[float, bytes]], share: float, tmp_path: Path, header: bytes
) -> None:
    damaged = bytearray(header)
    for place, value in damage:
        position = int(place * len(header))
        damaged[position : position + len(value)] = value
    with suppress(ModelFileError):
        read(tmp_path, bytes(damaged[: 1 + int(share * len(damaged))]))


def key(name: str, kind: int, payload: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + payload


def head(num_tensors: int, num_keys: int, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, num_tensors, num_keys)


NESTED = struct.pack("<IQ", 9, 1) * 20
HUGE = 2**63


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (head(0, 0, magic=b"GGML"), "magic"),
        (head(0, 0, version=1), "version: 1"),
        (head(0, 0, version=0x03000000), "big-endian"),
        (head(HUGE, 0), "tensor count"),
        (head(0, HUGE), "metadata count"),
        (head(0, 1) + struct.pack("<Q", HUGE) + b"x" * 64, "metadata key 0"),
        (head(0, 1) + key("k", 8, struct.pack("<Q", HUGE)) + b"x" * 64, "k: says a length"),
        (head(0, 1) + key("k", 99, b"\0" * 64), "k: has the unknown value type 99"),
        (head(0, 1) + key("k", 9, struct.pack("<IQ", 99, 1)) + b"\0" * 64, "unknown value type"),
        (head(0, 1) + key("k", 9, struct.pack("<IQ", 4, HUGE)) + b"\0" * 64, "k: says"),
        (head(0, 1) + key("k", 9, struct.pack("<IQQ", 8, 2, HUGE)) + b"\0" * 64, "k\\[0\\]"),
        (head(0, 1) + key("k", 9, NESTED) + b"\0" * 64, "nested too deeply"),
        (head(0, 2) + key("k", 7, b"\1") * 2 + b"\0" * 64, "k: is there twice"),
        (head(0, 1) + key("general.alignment", 4, struct.pack("<I", 3)), "power of two"),
        (head(1, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 8, 0, 0), "t: its data end outside"),
        (head(1, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 8, 0, 7), "multiple of the alignment"),
        (head(1, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 8, 0, HUGE), "outside the file"),
        (head(1, 0) + struct.pack("<Q1sI", 1, b"t", 9) + b"\0" * 64, "9 dimensions"),
        (head(1, 0) + struct.pack("<Q1sIQIQ", 1, b"t", 1, 8, 12, 0), "whole blocks of Q4_K"),
    ],
)
def test_hostile_headers_are_refused_by_name(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(ModelFileError, match=problem):
        read(tmp_path, data)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(ModelFileError, match="cannot be read"):
            read_gguf(path)
