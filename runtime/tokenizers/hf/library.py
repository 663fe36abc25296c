"""The `tokenizers` library, for every tokenizer.json that tiktoken cannot reproduce."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import msgspec
from tokenizers import Tokenizer

from runtime.errors import InvalidRequest, LockgateError, ModelFileError
from runtime.tokenizers.hf.tokenizer_file import Step, TokenizerFile


class LibraryEncoder:
    """Text to ids by the library. `hidden` are the added tokens that count as special.

    A Unigram vocabulary has the texts of its control tokens among its words, where the library may
    find them even without `parse_special`.
    """

    def __init__(self, file: TokenizerFile, hidden: set[int]) -> None:
        """Raises ModelFileError for a file that the library refuses or reads differently."""
        _check_prefixes(file)
        self._document = _with_special(file.document, hidden)
        with _refusals(lambda error: _unreadable(file, error)):
            self._tokenizer = Tokenizer.from_str(msgspec.json.encode(self._document).decode())
            around = self._tokenizer.encode("", add_special_tokens=True).ids
        if max(around, default=0) >= file.vocab_size:
            raise ModelFileError(f"{file.path}: `post_processor`: adds unknown tokens: {around}.")
        _check_ids(file, self._tokenizer)

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """See `Tokenizer.encode`; the text is clean."""
        tokenizer = self._tokenizer if parse_special else self._plain
        with _refusals(_untakeable):
            return list(tokenizer.encode(text, add_special_tokens=add_special).ids)

    @cached_property
    def _plain(self) -> Tokenizer:
        """A tokenizer that reads special tokens as plain text. The setting applies to a whole
        tokenizer and is rarely needed."""
        tokenizer = Tokenizer.from_str(msgspec.json.encode(self._document).decode())
        tokenizer.encode_special_tokens = True
        return tokenizer


@contextmanager
def _refusals(as_error: Callable[[BaseException], LockgateError]) -> Iterator[None]:
    """Converts the library's exceptions into our errors. The library raises bare Exceptions,
    and for a panic of its Rust code an object that is not an Exception."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise as_error(error) from error


def _unreadable(file: TokenizerFile, error: BaseException) -> ModelFileError:
    return ModelFileError(f"{file.path}: the tokenizers library cannot read it: {error}")


def _untakeable(error: BaseException) -> InvalidRequest:
    return InvalidRequest(f"The model's tokenizer cannot take this text: {error}", param=None)


def _check_prefixes(file: TokenizerFile) -> None:
    """Raises ModelFileError if the second part of a merge lacks the prefix. The library would cut
    the prefix's length off unchecked, and end the process if the rest is not UTF-8."""
    prefix = file.model.continuing_subword_prefix or ""
    for merge in file.model.merges:
        second = merge[1] if isinstance(merge, tuple) else merge.partition(" ")[2]
        if not second.startswith(prefix):
            raise ModelFileError(
                f"{file.path}: `model.continuing_subword_prefix` is {prefix!r}, and the second part"
                f" of the merge {merge!r} does not begin with it."
            )


def _check_ids(file: TokenizerFile, tokenizer: Tokenizer) -> None:
    for token_id, token in file.added.items():
        found = tokenizer.token_to_id(token.content)
        if found != token_id:
            raise ModelFileError(
                f"{file.path}: `added_tokens`: {token.content!r} has the id {token_id}, and the"
                f" tokenizers library gives it {found}."
            )


def _with_special(document: Step, hidden: set[int]) -> Step:
    tokens = [t | {"special": t["special"] or t["id"] in hidden} for t in document["added_tokens"]]
    return document | {"added_tokens": tokens}
