"""GGUF models as the converter reads them: every type, split files, damage."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convert.pipeline.plan import Options, make_plan
from convert.source.gguf import GGUFSource, open_source
from convert.target.recipe import make_recipe
from convert.tensors.dequantize import (
    _ggml,
    dequantize,
    dequantize_with_numpy,
    ggml_function,
)
from convert.tokenizer import build_tokenizer
from runtime.errors import ModelFileError, SetupError
from tests.kit.models.tiny_checkpoints import (
    random_weights,
    tiny_gguf,
    write_gguf,
)
from tests.kit.models.tiny_model import write_out

PLAIN = ("F32", "F16", "BF16")
QUANTIZED = (
    *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS"),
    *("TQ1_0", "TQ2_0", "MXFP4"),
)


def random_rows(kind: str, rows: int = 3, blocks: int = 2) -> tuple[np.ndarray, int]:
    """Random bytes that are blocks of `kind`, and how many values a row has."""
    block_values, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    data = np.random.default_rng(3).integers(0, 256, rows * blocks * block_bytes, dtype=np.uint8)
    return data, blocks * block_values


@pytest.fixture(params=["llama_cpp", "ik_llama_cpp"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As if this were the only llama.cpp library that is installed."""
    name: str = request.param
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setattr(
        "convert.tensors.dequantize.find_spec",
        lambda module: find_spec(module) if module == name else None,
    )
    _forget()
    yield name
    _forget()


def _forget() -> None:
    ggml_function.cache_clear()
    _ggml.cache_clear()


@pytest.mark.parametrize("kind", QUANTIZED)
def test_ggml_and_numpy_give_the_same_values(kind: str, package: str) -> None:
    assert ggml_function("dequantize_row_q8_0") is not None, package
    data, length = random_rows(kind)
    with np.errstate(all="ignore"):
        fast, slow = dequantize(data, kind, 3, length), dequantize_with_numpy(data, kind, 3, length)

    assert fast.shape == slow.shape == (3, length)
    np.testing.assert_allclose(fast, slow, rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("kind", [*PLAIN, "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_rows_of_a_file(kind: str, tmp_path: Path) -> None:
    stored = GGMLQuantizationType[kind]
    weights = random_weights("llama", 300)
    path = write_gguf(
        tmp_path / "m.gguf",
        "llama",
        weights | {"model.embed_tokens.weight": weights["lm_head.weight"]},
        vocabulary={},
        kind=stored,
    )
    original = weights["lm_head.weight"]
    expected = gguf.quants.dequantize(gguf.quants.quantize(original, stored), stored)

    with open_source(path).open_tensor("token_embd.weight") as reader:
        assert np.array_equal(reader.read(0, 300), expected.reshape(original.shape))
        assert np.array_equal(reader.read(7, 9), expected[7:9])


def test_a_type_that_nobody_reads(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("numbers", np.arange(4, dtype=np.int32))
    write_out(writer)

    with pytest.raises(ModelFileError, match="numbers: no way to read the type I32"):
        open_source(tmp_path / "m.gguf").values("numbers")


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """A model in several files."""
    write_gguf(
        tmp_path / "m.gguf",
        "llama",
        random_weights("llama", 300),
        vocabulary={},
        split_max_tensors=8,
    )
    return sorted(tmp_path.glob("m-*.gguf"))


def test_split_files_are_one_model(parts: list[Path], tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "w.gguf", "llama", random_weights("llama", 300), vocabulary={})
    expected = open_source(whole)

    assert len(parts) > 2
    for part in parts:
        source = open_source(part)
        assert source.tensors.keys() == expected.tensors.keys()
        assert source.architecture == "llama"
        for name in source.tensors:
            assert np.array_equal(source.values(name), expected.values(name))


def test_a_missing_part(parts: list[Path]) -> None:
    parts[1].unlink()

    with pytest.raises(ModelFileError, match="this part of the model is missing"):
        open_source(parts[0])


def test_parts_in_the_wrong_order(parts: list[Path]) -> None:
    parts[1].write_bytes(parts[2].read_bytes())

    with pytest.raises(ModelFileError, match=r"`split\.no` is 2 and should be 1"):
        open_source(parts[0])


def test_a_part_under_another_name(parts: list[Path]) -> None:
    renamed = parts[0].rename(parts[0].with_name("first.gguf"))

    with pytest.raises(ModelFileError, match=r"must end in -00001-of-0000\d\.gguf"):
        open_source(renamed)


def test_a_file_that_has_become_shorter(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", random_weights("llama", 300), vocabulary={})
    source = open_source(path)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)

    last = max(source.tensors.values(), key=lambda tensor: tensor.offset)
    with pytest.raises(ModelFileError, match="the file ends inside it"):
        source.values(last.name)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole model whose weights are zeros, so that its bytes are mostly header."""
    folder = tmp_path_factory.mktemp("small")
    return tiny_gguf(folder, "qwen2")[0].read_bytes()


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_is_an_error_of_ours(small: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of the header are overwritten, sizes most of all; planning survives or explains."""
    damaged = bytearray(small)
    places = st.integers(0, 40_000)
    for position in data.draw(st.lists(places, min_size=1, max_size=4)):
        value = data.draw(st.sampled_from([0, 1, 255, 1 << 31, 1 << 62, (1 << 64) - 1]))
        kind = data.draw(st.sampled_from(["<B", "<Q"]))
        struct.pack_into(kind, damaged, position, value & (255 if kind == "<B" else (1 << 64) - 1))
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damaged[: data.draw(st.sampled_from([len(damaged), 20_000]))])

    with suppress(SetupError):
        plan = make_plan(path, make_recipe("int4-rtn"), Options())
        assert isinstance(plan.source, GGUFSource)
        build_tokenizer(plan.source.header)
