"""What compares a checkpoint's tokens with the file's (benchmarks/agreement.py)."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.agreement import compare, text_logits, write_float_gguf
from tests.kit.engines import needs_llama_library
from tests.kit.models.tiny_checkpoints import (
    ARCHITECTURES,
    byte_level_vocabulary,
    random_weights,
    write_gguf,
)


def test_both_figures_by_their_definition() -> None:
    """Over all rows at once; the second has more columns, and the last block is a short one."""
    random = np.random.default_rng(0)
    first = random.normal(0, 3, (41, 50)).astype(np.float32)
    second = random.normal(0, 3, (41, 64)).astype(np.float32)
    second[5:20, :50] = first[5:20]
    p, q = (np.exp(x.astype(np.float64)) for x in (first, second[:, :50]))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    found = compare(first, second)

    assert found.top1 == np.mean(p.argmax(axis=1) == q.argmax(axis=1))
    assert found.kl == pytest.approx((p * np.log(p / q)).sum(axis=1).mean())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_file_without_its_vocabulary_computes_the_same(architecture: str, tmp_path: Path) -> None:
    needs_llama_library()
    count = len(byte_level_vocabulary(tmp_path)["tokenizer.ggml.tokens"])
    path = write_gguf(tmp_path / "m.gguf", architecture, random_weights(architecture, count))
    write_float_gguf(path, tmp_path / "float32.gguf")
    token_ids = [5, 77, 9, 260, 33, 5]
    expected = text_logits(path, token_ids)

    assert expected.shape == (6, count)
    np.testing.assert_array_equal(text_logits(tmp_path / "float32.gguf", token_ids), expected)
