"""Servers that the tests of this room share."""

from tests.kit.openai.responses import SENTENCE
from tests.kit.serving import scripted_settings, server_of

server = server_of(scripted_settings(engine={"max_model_len": 2000}, text=SENTENCE, num_tokens=20))
