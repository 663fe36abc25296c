"""Servers that the tests of this room share."""

from tests.kit.openai.responses import SCRIPT, SENTENCE
from tests.kit.serving import (
    scripted_settings,
    server_of,
)

server = server_of(scripted_settings(engine={"max_model_len": 1000}, text=SENTENCE, num_tokens=60))
caller = server_of(
    scripted_settings(
        model={"tool_dialect": "hermes", "reasoning_parser": "deepseek_r1"},
        text=SCRIPT,
        num_tokens=2 * len(SCRIPT.encode()),
    )
)
"""Thinks, then calls; it begins anywhere in its text and says it twice."""
