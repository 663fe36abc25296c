"""Checkpoint folders: the tokens of transformers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers

from runtime.errors import InvalidRequest
from runtime.text.detokenizer import Detokenizer
from runtime.tokenizers.hf.bpe import PATTERNS, TiktokenEncoder, same_characters
from runtime.tokenizers.hf.library import LibraryEncoder
from runtime.tokenizers.hf.tokenizer import HFTokenizer
from runtime.tokenizers.load import load_tokenizer
from tests.kit.models import hf_folders as build
from tests.kit.models.hf_folders import NUM_PADDED, write_folder
from tests.kit.models.texts import nasty_texts
from tests.runtime.tokenizers.hf.harness import BYTE_LEVEL, KINDS, TEXTS, Pair, edit, set_key


def test_same_tokens_as_transformers(pair: Pair) -> None:
    for text in nasty_texts(500, seed=2):
        pair.assert_same(text)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80) | st.text("<|_>ims tartend'\n\r é日12", max_size=60))
def test_same_tokens_as_transformers_on_any_text(pair: Pair, text: str) -> None:
    pair.assert_same(text.encode("utf-8", "replace").decode())


def test_which_tokenizers_tiktoken_takes(pair: Pair) -> None:
    wanted = TiktokenEncoder if pair.folder.name in BYTE_LEVEL else LibraryEncoder

    assert type(pair.ours.encoder) is wanted


def test_token_bytes_are_what_transformers_decodes(pair: Pair) -> None:
    """But for the blank that some decoders take away at the beginning of a text."""
    for text in nasty_texts(200, seed=3):
        token_ids = pair.ours.encode(text, add_special=True, parse_special=True)
        theirs = pair.theirs.decode(token_ids, skip_special_tokens=True)
        ours = Detokenizer(pair.ours)
        pieces = "".join(ours.push([token_id]) for token_id in token_ids)
        assert pieces in (theirs, " " + theirs), ascii(text)


def test_the_whole_vocabulary_has_bytes(pair: Pair) -> None:
    """Ids that only the model has, and control tokens, stand for no text."""
    vocab_size = pair.ours.vocab_size
    special = {i for i, token in pair.theirs.added_tokens_decoder.items() if token.special}

    assert vocab_size == len(pair.theirs) + NUM_PADDED
    for token_id in range(len(pair.theirs)):
        hidden = token_id in special or token_id in pair.ours.eog_token_ids
        if hidden or pair.folder.name in BYTE_LEVEL:
            assert bool(pair.ours.token_bytes(token_id)) is not hidden
    for token_id in range(len(pair.theirs), vocab_size):
        assert pair.ours.token_bytes(token_id) == b""
    for token_id in (-1, vocab_size):
        with pytest.raises(IndexError):
            pair.ours.token_bytes(token_id)


def test_control_tokens_are_plain_text_unless_asked_for(pair: Pair) -> None:
    if pair.folder.name == "unigram":
        return  # its vocabulary has the texts of control tokens among its words
    text = f"a{pair.ours.eos_token}b<tool_call>"
    parsed = pair.ours.encode(text, add_special=False, parse_special=True)
    plain = pair.ours.encode(text, add_special=False, parse_special=False)

    assert pair.ours.eos_token_id in parsed
    assert not pair.ours.eog_token_ids & set(plain)
    assert b"<tool_call>" in {pair.ours.token_bytes(token_id) for token_id in plain}
    assert b"".join(map(pair.ours.token_bytes, plain)).strip() == text.encode()


def test_lone_surrogates_count_as_replacement_characters(pair: Pair) -> None:
    def encode(text: str) -> list[int]:
        return pair.ours.encode(text, add_special=False, parse_special=True)

    assert encode("a\ud800b\udfff") == encode("a\ufffdb\ufffd")
    assert encode("\ud83d\udc4d") == encode("👍")


def test_byte_tokens_are_their_bytes(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_folder(tmp_path / "llama2", KINDS["llama2"]()))
    token_ids = tokenizer.encode("\U0001f9ff", add_special=False, parse_special=False)

    assert [tokenizer.token_bytes(token_id) for token_id in token_ids] == [
        b" ",
        *(bytes((byte,)) for byte in "\U0001f9ff".encode()),
    ]


@pytest.mark.parametrize("text", [" " * 500_000, "ab " * 200_000])
def test_endless_texts(qwen2: Path, text: str) -> None:
    tokenizer = load_tokenizer(qwen2)
    token_ids = tokenizer.encode(text, add_special=False, parse_special=True)

    assert b"".join(map(tokenizer.token_bytes, token_ids)) == text.encode()


def test_both_engines_know_the_same_characters() -> None:
    """What the probes promise, for every character there is."""
    import tiktoken

    assert same_characters()
    everything = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    ranks = {bytes((byte,)): byte for byte in range(256)}
    for name in (r"\p{L}", r"\p{N}", r"\s"):
        only = tiktoken.Encoding("all", pat_str=name, mergeable_ranks=ranks, special_tokens={})
        split = pre_tokenizers.Split(Regex(name), behavior="removed", invert=True)
        for start in range(0, len(everything), 100_000):
            text = everything[start : start + 100_000]
            theirs = "".join(piece for piece, _ in split.pre_tokenize_str(text))
            assert bytes(only.encode_ordinary(text)).decode() == theirs


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_every_known_pattern_cuts_like_the_library(pattern: str, tmp_path: Path) -> None:
    tokenizer = build.byte_level(TEXTS, pattern)
    ours = load_tokenizer(write_folder(tmp_path / "m", tokenizer))

    assert isinstance(ours, HFTokenizer)
    assert isinstance(ours.encoder, TiktokenEncoder)
    for text in nasty_texts(300, seed=4):
        want = tokenizer.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_special=False, parse_special=True) == want, ascii(text)


def strip_added(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])


def normalized_added(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken("é!", normalized=True)])


def meeting_added(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("abc", normalized=False), AddedToken("xabcx")])


def lower_case(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Lowercase()


def blank_first(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def unknown_pattern(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = build.byte_level_words(r"\p{Lu}?\p{Ll}+|\s|[^\s\p{Ll}]+")


def digits_first(tokenizer: Tokenizer) -> None:
    parts = [pre_tokenizers.Digits(individual_digits=True), build.byte_level_words(None)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)


ODD = (strip_added, normalized_added, meeting_added, lower_case, blank_first, unknown_pattern)


@pytest.mark.parametrize("change", [*ODD, digits_first])
def test_what_tiktoken_would_get_wrong_goes_to_the_library(
    change: Callable[[Tokenizer], None], tmp_path: Path
) -> None:
    tokenizer = build.byte_level(TEXTS, None, vocab_size=400)
    change(tokenizer)
    # transformers 4 lets this setting overrule a file that says otherwise
    config = {"add_prefix_space": change is blank_first}
    pair = Pair(write_folder(tmp_path / "odd", tokenizer, tokenizer_config=config))

    assert isinstance(pair.ours.encoder, LibraryEncoder)
    odd = ["a <mask> b", "e\u0301! é!", "xabcx abc", "ABC", "a1b22"]
    for text in [*odd, *nasty_texts(50, seed=5)]:
        pair.assert_same(text)


def test_merges_in_both_spellings(copy: Path, qwen2: Path) -> None:
    """As pairs, and joined by a blank as older files have them."""

    def join(document: dict[str, Any]) -> None:
        merges = document["model"]["merges"]
        assert isinstance(merges[0], list)
        document["model"]["merges"] = [" ".join(merge) for merge in merges]

    edit(copy / "tokenizer.json", join)
    old, new = load_tokenizer(copy), load_tokenizer(qwen2)
    assert isinstance(old, HFTokenizer)
    assert isinstance(old.encoder, TiktokenEncoder)
    for text in nasty_texts(100):
        both = (t.encode(text, add_special=True, parse_special=True) for t in (old, new))
        assert next(both) == next(both)


def test_merges_that_tiktoken_would_do_otherwise(copy: Path) -> None:
    """The last merge made the first: now what it joins is not there when its turn comes."""

    def turn(document: dict[str, Any]) -> None:
        document["model"]["merges"].reverse()

    edit(copy / "tokenizer.json", turn)
    pair = Pair(copy)
    assert isinstance(pair.ours.encoder, LibraryEncoder)
    for text in nasty_texts(100):
        pair.assert_same(text)


def test_added_tokens_of_tokenizer_config(copy: Path) -> None:
    """A token that tokenizer.json does not have, and one that it has otherwise."""
    size = len(Pair(copy).theirs)
    tokens = {
        str(size): {"content": "<think>", "normalized": False, "special": False},
        str(size - 1): {"content": "</tool_call>", "normalized": False, "special": True},
    }
    set_key(copy / "tokenizer_config.json", "added_tokens_decoder", tokens)
    pair = Pair(copy)

    assert pair.ours.encode("<think>", add_special=False, parse_special=False) == [size]
    assert pair.ours.token_bytes(size) == b"<think>"
    assert pair.ours.token_bytes(size - 1) == b""
    pair.assert_same("a<think>b</tool_call>")


def test_added_tokens_that_the_model_has_no_place_for_are_text(copy: Path) -> None:
    document = json.loads((copy / "tokenizer.json").read_text(encoding="utf-8"))
    last = max(token["id"] for token in document["added_tokens"])
    set_key(copy / "config.json", "vocab_size", last)
    tokenizer = load_tokenizer(copy)
    token_ids = tokenizer.encode("</tool_call>", add_special=False, parse_special=True)

    assert tokenizer.vocab_size == last
    assert len(token_ids) > 1
    assert b"".join(map(tokenizer.token_bytes, token_ids)) == b"</tool_call>"


def test_a_text_that_a_tokenizer_cannot_take_is_the_requests_fault(tmp_path: Path) -> None:
    tokenizer = KINDS["unigram"]()
    folder = write_folder(tmp_path / "m", tokenizer)
    edit(folder / "tokenizer.json", lambda document: document["model"].update(unk_id=None))

    with pytest.raises(InvalidRequest, match="cannot take this text"):
        load_tokenizer(folder).encode("日", add_special=False, parse_special=True)
