"""How a generation ends by itself."""

from msgspec import Struct

from runtime.engines.tensorrt_llm.checkpoint import Checkpoint
from runtime.errors import ModelFileError
from runtime.tokenizer import Tokenizer


class EndTokens(Struct, frozen=True):
    """All end-of-sequence tokens, and the one that stands for them. `known_to_package` when the
    package has a tokenizer that tells it; otherwise each request has to."""

    token_ids: frozenset[int]
    eos_token_id: int | None
    known_to_package: bool


def find_end_tokens(
    tokenizer: Tokenizer, checkpoint: Checkpoint, *, known_to_package: bool
) -> EndTokens:
    """What the tokenizer and the model's folder say together. Raises ModelFileError when neither
    says anything that the package could be told."""
    token_ids = tokenizer.eog_token_ids | checkpoint.eos_token_ids
    eos_token_id = tokenizer.eos_token_id
    if eos_token_id is None:
        eos_token_id = min(token_ids, default=None)
    if eos_token_id is None and not known_to_package:
        raise ModelFileError(
            f"{checkpoint.folder} names no end-of-sequence token and has no tokenizer that does."
            " Add eos_token_id to its generation_config.json."
        )
    return EndTokens(token_ids, eos_token_id, known_to_package)
