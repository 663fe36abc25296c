"""The walk-through with the default model under the large one's name. int4-awq takes minutes."""

import os
from pathlib import Path

import pytest

from runtime import ModelStore
from tests.walkthrough import SOURCE, Walk, commands, is_for_elsewhere

MODEL = "qwen2.5-coder-0.5b-instruct"


@pytest.mark.timeout(1800)
def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ModelStore().pull(MODEL)
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.upper().startswith("LOCKGATE"):
            monkeypatch.delenv(name)
    (tmp_path / SOURCE).symlink_to(source)

    with Walk(tmp_path) as walk:
        for command in commands():
            if not is_for_elsewhere(command):
                walk.run(command)

    (answer,) = walk.answers
    assert answer["usage"]["completion_tokens"] > 0
