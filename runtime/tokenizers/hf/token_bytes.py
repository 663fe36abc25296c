"""The bytes that each token stands for, by the `decoder` of tokenizer.json.

Decoders are made for whole texts. Steps that look at one token at a time are applied here. What
they do at the ends of a text, such as removing its first blank, is left out, because a stream has
no such ends and a prompt's echo must be the prompt.
"""

import re
from collections.abc import Callable, Iterator

from runtime.errors import ModelFileError
from runtime.tokenizers.bpe_ranks import bytes_of
from runtime.tokenizers.hf.tokenizer_file import Step, TokenizerFile

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_Decode = Callable[[str], str | bytes]


def token_bytes(file: TokenizerFile, hidden: set[int]) -> list[bytes]:
    """The bytes of all tokens, by id: b"" for those of `hidden` and for ids without a token.

    Raises ModelFileError for a decoder with an unknown step: the bytes of a token might depend on
    its neighbours.
    """
    decode = _decoder(file)
    table = [b""] * file.vocab_size
    for text, token_id in file.ids.items():
        table[token_id] = decode(text)
    byte_level = is_byte_level(file)
    for token_id, token in file.added.items():
        # The texts of added tokens are not in GPT-2's spelling of bytes.
        table[token_id] = token.content.encode() if byte_level else decode(token.content)
    for token_id in hidden:
        table[token_id] = b""
    return table


def is_byte_level(file: TokenizerFile) -> bool:
    """Whether ordinary tokens are in GPT-2's spelling of bytes."""
    return [step.get("type") for step in _steps(file.decoder)] == ["ByteLevel"]


def _decoder(file: TokenizerFile) -> Callable[[str], bytes]:
    steps = [_step(file, step) for step in _steps(file.decoder)]
    if not steps:
        raise _unsupported(file, "there is none")

    def decode(text: str) -> bytes:
        value: str | bytes = text
        for step in steps:
            if isinstance(value, str):
                value = step(value)
        return value if isinstance(value, bytes) else value.encode()

    return decode


def _steps(decoder: Step | None) -> Iterator[Step]:
    """The steps of a decoder up to where the texts of all tokens become one."""
    parts = [] if decoder is None else [decoder]
    match decoder:
        case {"type": "Sequence", "decoders": list(inner)}:
            parts = [part for part in inner if isinstance(part, dict)]
    for part in parts:
        if part.get("type") == "Fuse":
            return
        yield part


def _step(file: TokenizerFile, step: Step) -> _Decode:
    match step:
        case {"type": "ByteLevel"}:
            return _decode_byte_level
        case {"type": "ByteFallback"}:
            return _decode_byte_token
        case {"type": "Metaspace", "replacement": str(old)} if old:
            return _replacer(old, " ")
        case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)} if old:
            return _replacer(old, new)
    raise _unsupported(file, repr(step.get("type")))


def _decode_byte_level(text: str) -> bytes:
    data = bytes_of(text)
    return text.encode() if data is None else data


def _decode_byte_token(text: str) -> str | bytes:
    found = _BYTE.fullmatch(text)
    return bytes.fromhex(found[1]) if found else text


def _replacer(old: str, new: str) -> _Decode:
    return lambda text: text.replace(old, new)


def _unsupported(file: TokenizerFile, what: str) -> ModelFileError:
    return ModelFileError(
        f"{file.path}: `decoder`: {what}; supported are ByteLevel, Metaspace, and sequences of"
        " Replace, ByteFallback, Fuse and Strip, as language models have them."
    )
