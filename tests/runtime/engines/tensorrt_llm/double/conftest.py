"""A package for each release, and LLMs made from it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.tensorrt_double import RELEASES
from tests.runtime.engines.tensorrt_llm.double.harness import (
    END_OF_TEXT,
    EOS,
    VOCAB,
    Double,
    Start,
    loaded,
)


@pytest.fixture(params=RELEASES)
def double(request: pytest.FixtureRequest) -> Iterator[Double]:
    """Each release in a package of its own."""
    with loaded(request.param) as made:
        yield made


@pytest.fixture
def start(double: Double, tmp_path: Path, tokenizer_text: str) -> Iterator[Start]:
    """Makes an LLM of a plan and arguments; all are shut down at the end. With `speaks` it has a
    tokenizer, so that answers are text, and a second end token, 300."""
    made: list[Any] = []
    config = {"vocab_size": VOCAB, "eos_token_id": EOS, "max_position_embeddings": 1024}
    (tmp_path / "config.json").write_text(json.dumps(config))

    def start(plan: dict[str, Any] | None = None, *, speaks: bool = False, **arguments: Any) -> Any:
        (tmp_path / "double.json").write_text(json.dumps(plan or {}))
        if speaks:
            (tmp_path / "tokenizer.json").write_text(tokenizer_text)
            ends = {"eos_token_id": [END_OF_TEXT, 300]}
            (tmp_path / "generation_config.json").write_text(json.dumps(ends))
        made.append(double.LLM(tmp_path, **{"skip_tokenizer_init": not speaks, **arguments}))
        return made[-1]

    yield start
    for llm in made:
        if llm._executor is not None:
            llm._executor.unblock()
        llm.shutdown()


@pytest.fixture(scope="session")
def tokenizer_text() -> str:
    """tokenizer.json of a tokenizer whose tokens are bytes, and a special end token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: index for index, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer.to_str()
