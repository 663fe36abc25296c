"""Servers that the tests of several rooms use."""

from tests.kit.serving import scripted_settings, server_of

open_server = server_of(
    scripted_settings(
        engine={"max_model_len": 500, "max_num_waiting": 1000}, text="The quick brown fox, 狐狸! "
    )
)
"""It answers everybody, from the scripted engine."""
