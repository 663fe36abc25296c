"""Names of files and folders. What has another name is somebody else's and is left alone."""

import re

SUFFIX = ".block"
UNFINISHED = ".part"
"""Ends the name of a block that is being written."""

FOLDER = re.compile("[0-9a-f]{32}")
"""A folder of one model."""

BLOCK = re.compile(rf"([0-9a-f]{{64}}){re.escape(SUFFIX)}")
"""A block; the group is its key."""

UNFINISHED_BLOCK = re.compile(rf"{BLOCK.pattern}\.[0-9-]+{re.escape(UNFINISHED)}")


def folder_name(identity: bytes) -> str:
    """The folder of the model that `identity`, a hash, stands for."""
    return identity.hex()[:32]


def block_name(key: bytes) -> str:
    """The file of a block."""
    return f"{key.hex()}{SUFFIX}"
