"""The interface of tokenizers: text to token ids and back."""

from collections.abc import Mapping
from typing import Protocol

from runtime.tokenizers.token_roles import FimTokens


class Tokenizer(Protocol):
    """Token ids are 0 to `vocab_size` - 1. All methods may be called from several threads.

    `max_model_len` is the model's context in tokens, 0 if the file does not say. `eog_token_ids`
    are all tokens that end a generation. `bos_token` and `eos_token` are the texts of these tokens,
    "" if there is none; `special_tokens` are the texts that chat templates may use, by names such
    as "bos_token". `fim_tokens` mark the parts of a prompt whose middle is to be filled in; None if
    the model was not trained for that. `tool_template` is the chat template for conversations with
    tools; None if the model has no template of its own for them. `control_tokens` are the texts of
    the tokens that structure a prompt: a text of a client that contains one is to stay text.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_model_len(self) -> int: ...

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def eos_token_id(self) -> int | None: ...

    @property
    def eog_token_ids(self) -> frozenset[int]: ...

    @property
    def chat_template(self) -> str | None: ...

    @property
    def tool_template(self) -> str | None: ...

    @property
    def bos_token(self) -> str: ...

    @property
    def eos_token(self) -> str: ...

    @property
    def fim_tokens(self) -> FimTokens | None: ...

    @property
    def control_tokens(self) -> frozenset[str]: ...

    @property
    def special_tokens(self) -> Mapping[str, str]: ...

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """The ids of `text`. A lone surrogate counts as U+FFFD.

        `add_special` adds the tokens that the model file puts before and after a text.
        `parse_special` reads the texts of control tokens as those tokens; without it they are plain
        text.
        """
        ...

    def least_tokens(self, text: str) -> int:
        """The fewest tokens that `text` can have, special ones aside: much cheaper to know than the
        tokens. 0 if nothing can be said."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for: b"" for control tokens. They may be half a character.

        Raises IndexError for an id outside the vocabulary.
        """
        ...

    def token_name(self, token_id: int) -> str:
        """The name of a token in the vocabulary, such as "<|im_end|>": a way to show a token that
        stands for no bytes. The name of an ordinary token may be "" or in the vocabulary's own
        spelling."""
        ...
