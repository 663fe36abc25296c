"""Split GGUF files are one model."""

from pathlib import Path

import pytest

from runtime.errors import ModelFileError
from runtime.models.gguf import part_names, read_gguf, read_whole_gguf
from tests.kit.models.split import split_gguf


@pytest.fixture
def parts(tiny_model_path: Path, tmp_path: Path) -> list[Path]:
    return split_gguf(tiny_model_path, tmp_path)


def test_all_parts_count(tiny_model_path: Path, parts: list[Path]):
    whole, split = read_gguf(tiny_model_path), read_whole_gguf(parts[0])
    assert [str(part) for part in parts] == part_names(str(parts[0]))
    assert {(each.name, each.shape, each.type) for each in split.tensors} == {
        (each.name, each.shape, each.type) for each in whole.tensors
    }
    assert split.file_size == sum(part.stat().st_size for part in parts)
    assert split.strings("tokenizer.ggml.tokens") == whole.strings("tokenizer.ggml.tokens")
    assert read_whole_gguf(tiny_model_path) == whole


def test_a_missing_part_is_named(parts: list[Path]):
    parts[1].unlink()
    with pytest.raises(ModelFileError, match=parts[1].name):
        read_whole_gguf(parts[0])
