"""tiktoken for folders with byte-level BPE, if it gives the same tokens as the `tokenizers`
library.

Every part of tokenizer.json must be one whose effect is known here. Merges are proved equal by
`bpe_ranks`. Patterns must be known ones, which both regular expression engines read alike as long
as their Unicode tables are of the same version.
"""

import re
from collections.abc import Callable
from functools import cache
from itertools import chain
from typing import Any

from msgspec import Struct

from runtime.tokenizers.bpe_ranks import build_ranks, bytes_of
from runtime.tokenizers.gguf.bpe import split_long, text_encoder
from runtime.tokenizers.hf.token_bytes import is_byte_level
from runtime.tokenizers.hf.tokenizer_file import Step, TokenizerFile
from runtime.tokenizers.special_tokens import SpecialTokens, overlap

_Around = tuple[tuple[int, ...], tuple[int, ...]]
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _llama3_like(numbers: str, marks: str = "", blanks: str = _BLANKS) -> str:
    letters, signs = rf"[\p{{L}}{marks}]" if marks else r"\p{L}", rf"[^\s\p{{L}}{marks}\p{{N}}]"
    return rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{numbers}| ?{signs}+[\r\n]*|{blanks}"


def _gpt4o_like(numbers: str, contraction: str) -> str:
    prefix = r"[^\r\n\p{L}\p{N}]?"
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    return (
        rf"{prefix}{upper}*{lower}+{contraction}|{prefix}{upper}+{lower}*{contraction}"
        rf"|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BLANKS}"
    )


PATTERNS = frozenset(
    {
        _GPT2,
        _llama3_like(r"\p{N}"),  # Qwen 2 and 3
        _llama3_like(r"\p{N}", r"\p{M}"),  # Qwen 3.5
        _llama3_like(r"\p{N}{1,3}"),  # Llama 3
        _llama3_like(r"\p{N}{1,3}", blanks=_BLANKS.replace("]+", "]", 1)),  # cl100k
        _gpt4o_like(r"\p{N}", ""),  # Mistral's Tekken
        _gpt4o_like(r"\p{N}{1,3}", _CONTRACTION + "?"),  # o200k: gpt-oss, Llama 4
    }
)
"""Patterns in the spelling of real files. Each matches every character, as tiktoken requires."""

# Characters that are new in Unicode 15.0, 15.1, 16.0 and 17.0, and some older ones.
_PROBES = "aA1\u0301ǅʰ漢\u0085\u1c89\U0001e4d0\U0001e4f0\U00031350\U0002ebf0\U00010d40\U000105c0"
_PROBES += "\U00010d50\U00010d70\U00010d4e\U00010d69\U00011de0\U000323b0\U00011db0"
_CLASSES = (
    r"\p{L}",
    r"\p{N}",
    r"\p{M}",
    r"\p{Lu}",
    r"\p{Lt}",
    r"\p{Ll}",
    r"\p{Lm}",
    r"\p{Lo}",
    r"\s",
)


class TiktokenEncoder(Struct, frozen=True):
    """Text to ids. `special` finds all added tokens, `shown` only those that stand for their own
    text."""

    special: SpecialTokens
    shown: SpecialTokens
    normalize: Callable[[str], str]
    encode_text: Callable[[str], list[int]]
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """See `Tokenizer.encode`; the text is clean."""
        token_ids = list(self.prefix) if add_special else []
        for piece in (self.special if parse_special else self.shown).split(text):
            if isinstance(piece, int):
                token_ids.append(piece)
            else:
                for part in split_long(self.normalize(piece)):
                    token_ids += self.encode_text(part)
        if add_special:
            token_ids += self.suffix
        return token_ids


def tiktoken_encoder(file: TokenizerFile, hidden: set[int]) -> TiktokenEncoder | None:
    """The encoder of a file, or None if it might give other tokens than `tokenizers`.

    `hidden` are the added tokens whose texts are plain text unless `parse_special` says otherwise.
    """
    pattern = _pattern(file.pre_tokenizer)
    normalize = _normalizer(file.normalizer)
    around = _around(file)
    if pattern is None or normalize is None or around is None or not is_byte_level(file):
        return None
    if not _are_plain(file) or not same_characters():
        return None
    encode_text = _encode_text(file, pattern)
    if encode_text is None:
        return None
    ids = {token.content: token_id for token_id, token in file.added.items()}
    shown = {text: token_id for text, token_id in ids.items() if token_id not in hidden}
    return TiktokenEncoder(
        special=SpecialTokens(ids, leftmost=True),
        shown=SpecialTokens(shown, leftmost=True),
        normalize=normalize,
        encode_text=encode_text,
        prefix=around[0],
        suffix=around[1],
    )


@cache
def same_characters() -> bool:
    """Whether tiktoken and `tokenizers` agree on the characters in the classes of patterns."""
    import tiktoken
    from tokenizers import Regex, pre_tokenizers

    def found_by_tiktoken(name: str) -> str:
        ranks = {bytes((byte,)): byte for byte in range(256)}
        only = tiktoken.Encoding("probe", pat_str=name, mergeable_ranks=ranks, special_tokens={})
        return bytes(only.encode_ordinary(_PROBES)).decode()

    def found_by_tokenizers(name: str) -> str:
        split = pre_tokenizers.Split(Regex(name), behavior="removed", invert=True)
        return "".join(piece for piece, _ in split.pre_tokenize_str(_PROBES))

    return all(found_by_tiktoken(name) == found_by_tokenizers(name) for name in _CLASSES)


def _encode_text(file: TokenizerFile, pattern: str) -> Callable[[str], list[int]] | None:
    model = file.model
    if model.type != "BPE" or model.dropout or model.byte_fallback:
        return None
    if model.continuing_subword_prefix or model.end_of_word_suffix:
        return None
    pairs = [m if isinstance(m, tuple) else tuple(m.split(" ")) for m in model.merges]
    if len(set(pairs)) != len(pairs) or any(len(pair) != 2 for pair in pairs):
        return None
    if any(" " in text or not text for text in chain.from_iterable(pairs)):
        return None
    added = {token.content for token in file.added.values()}
    words = (text for text in file.ids if text not in added) if model.ignore_merges else ()
    if sum(len(bytes_of(text) or b"") == 1 for text in file.ids) != 256:
        return None
    ranks = build_ranks(file.ids, [" ".join(pair) for pair in pairs], words)
    return None if ranks is None else text_encoder(pattern, ranks)


def _pattern(pre_tokenizer: Step | None) -> str | None:
    match _flat(pre_tokenizer, "pretokenizers"):
        case [{"type": "ByteLevel", "add_prefix_space": False} as only]:
            return _GPT2 if only.get("use_regex", True) is True else None
        case [
            {
                "type": "Split",
                "pattern": {"Regex": str(pattern)},
                "behavior": "Isolated",
                "invert": False,
            },
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]:
            return pattern if pattern in PATTERNS else None
    return None


def _normalizer(normalizer: Step | None) -> Callable[[str], str] | None:
    match _flat(normalizer, "normalizers"):
        case []:
            return _unchanged
        case [{"type": "NFC"}]:
            return _nfc()
    return None


def _nfc() -> Callable[[str], str]:
    # Not Python's: its Unicode table may be of another version than that of `tokenizers`.
    from tokenizers import normalizers

    normalize = normalizers.NFC().normalize_str
    return lambda text: text if text.isascii() else normalize(text)


def _unchanged(text: str) -> str:
    return text


def _around(file: TokenizerFile) -> _Around | None:
    """The ids before and after a single text, or None if they are not known."""
    steps = _flat(file.post_processor, "processors")
    match [step for step in steps if step.get("type") != "ByteLevel"]:
        case []:
            return (), ()
        case [
            {"type": "TemplateProcessing", "single": list(single), "special_tokens": dict(known)}
        ]:
            around = _read_template(single, known)
            ids = chain.from_iterable(around or ())
            return around if all(i in range(file.vocab_size) for i in ids) else None
    return None


def _read_template(single: list[Any], known: dict[str, Any]) -> _Around | None:
    sides: list[list[int]] = [[]]
    for piece in single:
        match piece:
            case {"Sequence": {"id": "A"}}:
                sides.append([])
            case {"SpecialToken": {"id": str(text)}}:
                match known.get(text):
                    case {"ids": list(ids)}:
                        sides[-1] += ids
                    case _:
                        return None
            case _:
                return None
    return (tuple(sides[0]), tuple(sides[1])) if len(sides) == 2 else None


def _are_plain(file: TokenizerFile) -> bool:
    """Whether added tokens are found wherever their text is, in one pass, and have the file's
    ids."""
    tokens = file.added.values()
    if any(t.single_word or t.lstrip or t.rstrip or not t.content for t in tokens):
        return False
    by_stage = (
        [t.content for t in tokens if not t.normalized],
        [t.content for t in tokens if t.normalized],
    )
    if by_stage[1] and file.normalizer is not None and _flat(file.normalizer, "normalizers"):
        return False
    return _have_their_ids(file) and not _meet(*by_stage)


def _have_their_ids(file: TokenizerFile) -> bool:
    """Whether `tokenizers` gives added tokens the ids of the file. It ignores those ids, and
    numbers new tokens on from the last one."""
    following = len(file.ids)
    for token_id, token in file.added.items():
        if token_id != file.ids.get(token.content, following):
            return False
        following = max(following, token_id + 1)
    return True


def _meet(first: list[str], second: list[str]) -> bool:
    """Whether a text found in the first pass could be a part of, or overlap, a text of the
    second."""
    if not first or not second:
        return False
    inside = re.compile("|".join(map(re.escape, first)))
    return overlap([*first, *second]) or any(inside.search(text) for text in second)


def _flat(step: Step | None, inner: str) -> list[Step]:
    """A step as the list of its sub-steps."""
    if step is None:
        return []
    if step.get("type") != "Sequence":
        return [step]
    parts = step.get(inner)
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return [{}]
    return list(chain.from_iterable(_flat(part, inner) for part in parts))
