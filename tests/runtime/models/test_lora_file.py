"""What is no adapter of a model is refused in a sentence that names the file and what is wrong."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ModelFileError, SetupError
from runtime.models.adapters.lora_file import check_adapters, read_adapter
from runtime.models.gguf import GGUFFile, read_gguf
from tests.kit.models.tiny_adapter import SHAPES, write_adapter, write_tiny_adapter
from tests.kit.models.tiny_model import write_out, write_tiny_model

QUERY = "blk.0.attn_q.weight"
PAIR = {QUERY: SHAPES["attn_q"]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    return read_gguf(write_tiny_model(tmp_path_factory.mktemp("base") / "base.gguf"))


def write_tensors(path: Path, **shapes: tuple[int, ...]) -> None:
    """An adapter of whatever tensors; "_" in their names is a dot before the last part."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    for name, shape in shapes.items():
        writer.add_tensor(name.replace("__", "."), np.zeros(shape, np.float32))
    write_out(writer)


WRONG: list[tuple[str, Callable[[Path], object]]] = [
    ("not a GGUF file", lambda path: path.write_bytes(b"PK" * 50)),
    ("empty", lambda path: path.write_bytes(b"")),
    ("cannot be read", lambda path: path.mkdir()),
    ("cannot be read", lambda path: None),
    ("no LoRA adapter: `general.type` is ''", lambda path: write_tiny_model(path)),
    (
        "`general.type` is 'model'",
        lambda path: write_adapter(path, PAIR, keys={"general.type": "model"}),
    ),
    (
        "`adapter.type` is 'dora'",
        lambda path: write_adapter(path, PAIR, keys={"adapter.type": "dora"}),
    ),
    ("architecture 'qwen2'", lambda path: write_adapter(path, PAIR, architecture="qwen2")),
    ("no tensors", lambda path: write_adapter(path, {})),
    (
        "changes the tensor blk.7",
        lambda path: write_adapter(path, {"blk.7.attn_q.weight": (64, 64)}),
    ),
    ("does not fit the model", lambda path: write_adapter(path, {QUERY: (64, 32)})),
    ("does not fit the model", lambda path: write_adapter(path, {QUERY: (32, 64)})),
    (
        "has no lora_b beside it",
        lambda path: write_tensors(path, **{f"{QUERY}.lora_a": (8, 64)}),
    ),
    (
        "has no lora_a beside it",
        lambda path: write_tensors(path, **{f"{QUERY}.lora_b": (64, 8)}),
    ),
    (
        "no part of a LoRA pair",
        lambda path: write_tensors(path, **{"output_norm.weight": (64,)}),
    ),
    (
        "adapter's halves have 64 x 8 and 4 x 64",
        lambda path: write_tensors(
            path, **{f"{QUERY}.lora_a": (8, 64), f"{QUERY}.lora_b": (64, 4)}
        ),
    ),
    (
        "does not fit the model",
        lambda path: write_tensors(path, **{f"{QUERY}.lora_a": (64,), f"{QUERY}.lora_b": (64,)}),
    ),
]


@pytest.mark.parametrize(("words", "write"), WRONG)
def test_what_is_no_adapter_of_the_model(
    words: str, write: Callable[[Path], object], tmp_path: Path, base: GGUFFile
):
    path = tmp_path / "adapter.gguf"
    write(path)

    with pytest.raises(ModelFileError) as caught:
        read_adapter(str(path), base)

    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(SetupError, match="the adapter 'sql': "):
        check_adapters({"sql": str(path)}, base.path)


def test_an_activated_adapter_is_refused(tmp_path: Path, base: GGUFFile):
    path = tmp_path / "adapter.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_array("adapter.alora.invocation_tokens", [1, 2])
    write_out(writer)

    with pytest.raises(ModelFileError, match="activated LoRA"):
        read_adapter(str(path), base)


@given(
    parts=st.lists(st.sampled_from(sorted(SHAPES)), min_size=1, unique=True),
    rank=st.integers(1, 40),
)
def test_every_adapter_of_the_model_is_taken(
    parts: list[str], rank: int, base: GGUFFile, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("adapter") / "adapter.gguf"
    write_tiny_adapter(path, parts=parts, rank=rank)

    file = read_adapter(str(path), base)

    assert len(file.tensors) == 4 * len(parts)
    check_adapters({"a": str(path)}, base.path)


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path, base: GGUFFile):
    path = tmp_path / "adapter.gguf"
    write_tiny_adapter(path, parts=("attn_q",), rank=2)
    whole = path.read_bytes()
    for size in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError):
            read_adapter(str(path), base)


@pytest.mark.parametrize("name", ["", " "])
def test_an_adapter_needs_a_name(name: str, base: GGUFFile):
    with pytest.raises(SetupError, match="has no name"):
        check_adapters({name: "x.gguf"}, base.path)


def test_without_adapters_nothing_is_read():
    check_adapters({}, "/nowhere")
