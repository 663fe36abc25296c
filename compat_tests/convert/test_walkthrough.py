"""The walk-through with the default model under the large one's name. int4-awq takes minutes."""

import os
from pathlib import Path

import pytest

from runtime.models.store import ModelStore
from tests.kit.models.tiny_checkpoints import byte_level_vocabulary, random_weights, write_gguf
from tests.kit.walkthrough import SOURCE, Walk, commands, is_for_elsewhere

MODEL = "qwen2.5-coder-0.5b-instruct"


def leave_settings_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the one who runs the tests."""
    monkeypatch.chdir(folder)
    for name in os.environ:
        if name.upper().startswith("LOCKGATE"):
            monkeypatch.delenv(name)


def test_every_command_runs_on_a_tiny_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_settings_behind(tmp_path, monkeypatch)
    vocabulary = byte_level_vocabulary(tmp_path)
    weights = random_weights("qwen3", len(vocabulary["tokenizer.ggml.tokens"]))
    write_gguf(tmp_path / SOURCE, "qwen3", weights, vocabulary=vocabulary, context=512)

    with Walk(tmp_path) as walk:
        for command in commands():
            if not is_for_elsewhere(command):
                walk.run(command)

    assert walk.ran.count("lockgate serve") == 1
    assert walk.ran.count("lockgate-convert verify") == 2
    assert {"lockgate plan", "lockgate-convert plan", "lockgate-convert inspect"} < {*walk.ran}
    (answer,) = walk.answers
    assert answer["usage"]["completion_tokens"] > 0
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")


@pytest.mark.timeout(1800)
def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ModelStore().pull(MODEL)
    leave_settings_behind(tmp_path, monkeypatch)
    (tmp_path / SOURCE).symlink_to(source)

    with Walk(tmp_path) as walk:
        for command in commands():
            if not is_for_elsewhere(command):
                walk.run(command)

    (answer,) = walk.answers
    assert answer["usage"]["completion_tokens"] > 0
