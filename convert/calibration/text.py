"""The text that int4-awq calibrates with."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.errors import SetupError
from runtime.tokenizers.tokenizer import Tokenizer

# Prose, conversations, program code and a little of seven other languages.
_OWN = Path(__file__).with_name("calibration.txt")
SEQUENCE_LENGTH = 512
MAX_TOKENS = 16384
_MAX_BYTES = 1 << 22
_MIN_TOKENS = 256


def read_text(path: str) -> str:
    """The text of a file, "" for the one that comes with the converter. Raises SetupError."""
    file = Path(path) if path else _OWN
    try:
        with open(file, encoding="utf-8") as opened:
            return opened.read(_MAX_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"--calibration {file}: {error}") from error


def calibration_sequences(text: str, tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
    """Token ids of shape (sequences, tokens), each beginning as a prompt of the model does.

    At most `MAX_TOKENS` of the text are used. Raises SetupError for a text that is too short.
    """
    prefix = tokenizer.encode("", add_special=True, parse_special=False)[:1]
    if prefix != [tokenizer.bos_token_id]:
        prefix = []
    ids = tokenizer.encode(text, add_special=False, parse_special=False)[:MAX_TOKENS]
    if len(ids) < _MIN_TOKENS:
        raise SetupError(
            f"--calibration: the text has {len(ids)} tokens; it needs {_MIN_TOKENS} at least."
        )
    room = min(SEQUENCE_LENGTH, len(ids) + len(prefix)) - len(prefix)
    count = len(ids) // room
    parts = np.array(ids[: count * room], dtype=np.int64).reshape(count, room)
    heads = np.tile(np.array(prefix, dtype=np.int64), (count, 1))
    return np.concatenate([heads, parts], axis=1)
