"""Servers that the tests of this room share."""

from tests.kit.openai.peers import SCRIPT, SENTENCE
from tests.kit.serving import (
    scripted_settings,
    server_of,
)

server = server_of(
    scripted_settings(engine={"max_model_len": 500, "max_num_waiting": 1000}, text=SENTENCE)
)


caller = server_of(
    scripted_settings(
        model={"tool_dialect": "hermes"}, text=SCRIPT, num_tokens=3 * len(SCRIPT.encode())
    )
)
"""Says two calls, the beginning of a third in front of them or behind."""
