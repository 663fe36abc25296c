"""The `llm` command line, told of this server in its usual file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llm")

from compat_tests.conftest import MODEL

LLM = Path(sys.executable).parent / "llm"


def test_one_question_streamed_and_not(server, tmp_path):
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: here\n  model_name: {MODEL}\n  api_base: {server.url}/v1\n"
        "  supports_schema: true\n  supports_tools: true\n"
    )
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}

    def ask(*arguments: str) -> str:
        command = [str(LLM), "-m", "here", "-o", "temperature", "0", "-o", "max_tokens", "32"]
        return subprocess.run(
            [*command, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout

    question = "What is the capital of France? One sentence."
    assert "Paris" in ask(question)
    assert ask("--no-stream", question) == ask(question)
    assert set(json.loads(ask("--schema", "city, country", question))) == {"city", "country"}
