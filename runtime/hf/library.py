"""The `tokenizers` library, for every tokenizer.json that tiktoken cannot reproduce."""

from functools import cached_property

import msgspec
from tokenizers import Tokenizer

from runtime.errors import InvalidRequest, ModelFileError
from runtime.hf.tokenizer_file import Step, TokenizerFile


class LibraryEncoder:
    """Text to ids by the library. `hidden` are the added tokens that count as special."""

    def __init__(self, file: TokenizerFile, hidden: set[int]) -> None:
        """Raises ModelFileError for a file that the library refuses or reads differently."""
        self._document = _with_special(file.document, hidden)
        self._tokenizer = _load(file, self._document)
        for token_id, token in file.added.items():
            found = self._tokenizer.token_to_id(token.content)
            if found != token_id:
                raise ModelFileError(
                    f"{file.path}: `added_tokens`: {token.content!r} has the id {token_id}, and"
                    f" the tokenizers library gives it {found}."
                )

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """See `Tokenizer.encode`; the text is clean."""
        tokenizer = self._tokenizer if parse_special else self._plain
        try:
            return list(tokenizer.encode(text, add_special_tokens=add_special).ids)
        except Exception as error:  # the library has no narrower class
            raise InvalidRequest(
                f"The model's tokenizer cannot take this text: {error}", param=None
            ) from error

    @cached_property
    def _plain(self) -> Tokenizer:
        """One that reads special tokens as plain text. The setting is the whole tokenizer's, and
        is rarely asked for."""
        tokenizer = Tokenizer.from_str(msgspec.json.encode(self._document).decode())
        tokenizer.encode_special_tokens = True
        return tokenizer


def _load(file: TokenizerFile, document: Step) -> Tokenizer:
    try:
        return Tokenizer.from_str(msgspec.json.encode(document).decode())
    except Exception as error:  # the library has no narrower class
        raise ModelFileError(
            f"{file.path}: the tokenizers library cannot read it: {error}"
        ) from error


def _with_special(document: Step, hidden: set[int]) -> Step:
    tokens = [t | {"special": t["special"] or t["id"] in hidden} for t in document["added_tokens"]]
    return document | {"added_tokens": tokens}
