"""The end-of-sequence tokens of a model."""

from msgspec import Struct

from runtime.errors import ModelFileError
from runtime.tokenizers.tokenizer import Tokenizer


class EndTokens(Struct, frozen=True):
    """`token_ids` are all end-of-sequence tokens; `eos_token_id` is the main one.
    `known_to_package` says that the package's tokenizer knows it; otherwise each request must carry
    it."""

    token_ids: frozenset[int]
    eos_token_id: int | None
    known_to_package: bool


def find_end_tokens(tokenizer: Tokenizer, *, known_to_package: bool) -> EndTokens:
    """The end tokens of the model's folder, as our tokenizer has read them. Raises ModelFileError
    if the folder names none that the package could use."""
    if tokenizer.eos_token_id is None and not known_to_package:
        raise ModelFileError(
            "The model's folder names no end-of-sequence token, and TensorRT-LLM finds no tokenizer"
            " in it that does. Add eos_token_id to its generation_config.json."
        )
    return EndTokens(tokenizer.eog_token_ids, tokenizer.eos_token_id, known_to_package)
