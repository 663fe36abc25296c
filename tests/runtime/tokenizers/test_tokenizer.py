"""tiktoken built from a model file gives what llama.cpp gives; the built-in one gives bytes."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import gguf
import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.agreement import text_logits
from runtime.errors import InvalidRequest, MissingExtra, ModelFileError
from runtime.models.gguf import read_gguf
from runtime.tokenizers.bpe_ranks import build_ranks, spelling_of
from runtime.tokenizers.byte_tokenizer import ByteTokenizer
from runtime.tokenizers.gguf.bpe import BpeTokenizer
from runtime.tokenizers.gguf.llama_vocab import LlamaVocabTokenizer
from runtime.tokenizers.load import load_tokenizer
from runtime.tokenizers.special_tokens import SpecialTokens
from runtime.tokenizers.tokenizer import Tokenizer
from tests.kit.engines import needs_llama_library
from tests.kit.models.texts import FIELDS, nasty_texts
from tests.kit.models.tiny_model import CHAT_TEMPLATE, write_tiny_model

PRE_TOKENIZERS = (
    *("gpt-2", "smollm", "qwen2", "qwen35", "llama-bpe", "dbrx", "chatglm-bpe", "glm4", "tekken"),
    *("gpt-4o", "deepseek-v3", "seed-coder", "bailingmoe", "exaone-moe", "ufakzeka"),
)


def assert_same(ours: Tokenizer, theirs: Tokenizer, texts: Iterator[str]) -> None:
    for text in texts:
        for special in (True, False):
            encode = partial(dict, text=text, add_special=special, parse_special=special)
            found = ours.encode(**encode())
            assert found == theirs.encode(**encode()), ascii(text)
            assert max(ours.least_tokens(text), theirs.least_tokens(text)) <= len(found)


def assert_same_vocabulary(ours: Tokenizer, theirs: Tokenizer) -> None:
    for name in FIELDS:
        assert getattr(ours, name) == getattr(theirs, name), name
    for token_id in range(ours.vocab_size):
        assert ours.token_bytes(token_id) == theirs.token_bytes(token_id)
        if not ours.token_bytes(token_id):
            assert ours.token_name(token_id) == theirs.token_name(token_id)


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_same_tokens_as_llama_cpp_on_the_tiny_model(pre: str, tmp_path: Path) -> None:
    needs_llama_library()
    path = write_tiny_model(tmp_path / "tiny.gguf", pre=pre)
    ours, theirs = load_tokenizer(path), LlamaVocabTokenizer(read_gguf(path))

    assert isinstance(ours, BpeTokenizer)
    assert_same_vocabulary(ours, theirs)
    texts = (text for text in nasty_texts(400) if len(text) < 2000)
    assert_same(ours, theirs, texts)


@pytest.mark.parametrize(
    "texts",
    [
        ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
        ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        ("<PRE>", "<SUF>", "<MID>"),
    ],
)
def test_tokens_that_mark_a_gap_are_found_by_their_texts(
    texts: tuple[str, str, str], tmp_path: Path
) -> None:
    needs_llama_library()
    path = write_tiny_model(tmp_path / "tiny.gguf", more_control_tokens=texts)
    ours, theirs = load_tokenizer(path), LlamaVocabTokenizer(read_gguf(path))

    assert isinstance(ours, BpeTokenizer)
    assert ours.fim_tokens is not None
    assert ours.fim_tokens == theirs.fim_tokens
    assert tuple(map(ours.token_name, ours.fim_tokens)) == texts
    assert not set(ours.fim_tokens) & ours.eog_token_ids


def test_tokens_that_mark_a_gap_are_named_by_the_file(tmp_path: Path) -> None:
    """By either generation of keys; two marks of three are none."""
    needs_llama_library()
    names = ("<a>", "<b>", "<c>")
    for keys in (
        ("fim_pre_token_id", "fim_suf_token_id", "fim_mid_token_id"),
        ("prefix_token_id", "suffix_token_id", "middle_token_id"),
    ):
        path = write_tiny_model(
            tmp_path / "tiny.gguf",
            more_control_tokens=names,
            token_keys=dict(zip(keys, names, strict=True)),
        )
        ours, theirs = load_tokenizer(path), LlamaVocabTokenizer(read_gguf(path))
        assert ours.fim_tokens is not None
        assert ours.fim_tokens == theirs.fim_tokens
        assert tuple(map(ours.token_name, ours.fim_tokens)) == names
    two = write_tiny_model(
        tmp_path / "two.gguf", more_control_tokens=names, token_keys={"fim_pre_token_id": "<a>"}
    )
    assert load_tokenizer(two).fim_tokens is None


@pytest.mark.slow
def test_same_tokens_as_llama_cpp_on_the_default_model(default_model_path: Path) -> None:
    needs_llama_library()
    ours = load_tokenizer(default_model_path)
    theirs = LlamaVocabTokenizer(read_gguf(default_model_path))

    assert isinstance(ours, BpeTokenizer)
    assert_same_vocabulary(ours, theirs)
    assert_same(ours, theirs, nasty_texts(4000))


def test_the_tiny_model_is_computed(tiny_model_path: Path) -> None:
    needs_llama_library()
    tokenizer = LlamaVocabTokenizer(read_gguf(tiny_model_path))
    token_ids = tokenizer.encode("the quick fox", add_special=True, parse_special=True)
    logits = text_logits(tiny_model_path, token_ids, num_threads=1)

    assert logits.shape == (len(token_ids), tokenizer.vocab_size)
    assert len(set(logits[-1])) > 100


@pytest.fixture(scope="module")
def tiny(tiny_model_path: Path) -> Tokenizer:
    return load_tokenizer(tiny_model_path)


def test_what_a_model_file_says(tiny: Tokenizer) -> None:
    assert (tiny.max_model_len, tiny.chat_template) == (2048, CHAT_TEMPLATE)
    assert (tiny.bos_token, tiny.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert tiny.eog_token_ids == {tiny.bos_token_id, tiny.eos_token_id}
    assert tiny.token_name(tiny.eos_token_id or 0) == "<|im_end|>"
    assert tiny.fim_tokens is None


def test_control_tokens_are_plain_text_unless_asked_for(tiny: Tokenizer) -> None:
    text = "a<|im_end|>b"

    assert tiny.eos_token_id in tiny.encode(text, add_special=False, parse_special=True)
    plain = tiny.encode(text, add_special=False, parse_special=False)
    assert not tiny.eog_token_ids & set(plain)
    assert b"".join(map(tiny.token_bytes, plain)) == text.encode()


def test_control_tokens_have_no_bytes_and_user_defined_ones_do(tiny: Tokenizer) -> None:
    (call,) = tiny.encode("<tool_call>", add_special=False, parse_special=False)

    assert tiny.token_bytes(tiny.eos_token_id or 0) == b""
    assert tiny.token_bytes(call) == b"<tool_call>"
    for token_id in (-1, tiny.vocab_size):
        with pytest.raises(IndexError):
            tiny.token_bytes(token_id)


@given(st.text(max_size=60))
def test_text_survives_the_round_trip(tiny: Tokenizer, text: str) -> None:
    token_ids = tiny.encode(text, add_special=False, parse_special=False)

    assert b"".join(map(tiny.token_bytes, token_ids)) == text.encode("utf-8", "replace")


@pytest.mark.parametrize("name", ["byte", "tiny", "llama"])
def test_lone_surrogates_count_as_replacement_characters(name: str, tiny_model_path: Path) -> None:
    tokenizer: Tokenizer = ByteTokenizer()
    if name == "tiny":
        tokenizer = load_tokenizer(tiny_model_path)
    if name == "llama":
        needs_llama_library()
        tokenizer = LlamaVocabTokenizer(read_gguf(tiny_model_path))
    encode = partial(tokenizer.encode, add_special=False, parse_special=True)

    assert encode("a\ud800b\udfff") == encode("a\ufffdb\ufffd")
    assert encode("\ud83d\udc4d") == encode("👍")


@pytest.mark.parametrize("text", [" " * 1_100_000, "\n" * 1_100_000 + "x", "ab " * 300_000])
def test_endless_texts_do_not_break_the_regex_engine(tiny: Tokenizer, text: str) -> None:
    token_ids = tiny.encode(text, add_special=False, parse_special=True)

    assert b"".join(map(tiny.token_bytes, token_ids)) == text.encode()


def test_long_texts_are_cut_where_a_word_ends(tiny: Tokenizer) -> None:
    encode = partial(tiny.encode, add_special=False, parse_special=False)

    assert encode("ab " * 300_000) == encode("ab") + encode(" ab") * 299_999 + encode(" ")


def test_equal_ids_are_one_object(tiny: Tokenizer) -> None:
    token_ids = tiny.encode("the same words again, " * 1000, add_special=True, parse_special=True)

    assert max(token_ids) > 256, "smaller numbers are shared by the interpreter"
    assert len({id(token_id) for token_id in token_ids}) == len(set(token_ids))


def test_many_threads_at_once(tiny: Tokenizer) -> None:
    texts = list(nasty_texts(200))
    encode = partial(tiny.encode, add_special=True, parse_special=True)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(encode, texts)) == list(map(encode, texts))


# --- when tiktoken will not do ---


def test_an_unknown_rule_goes_to_llama_cpp(tmp_path: Path) -> None:
    needs_llama_library()
    path = write_tiny_model(tmp_path / "falcon.gguf", pre="falcon")
    tokenizer = load_tokenizer(path)

    assert isinstance(tokenizer, LlamaVocabTokenizer)
    token_ids = tokenizer.encode("the fox", add_special=False, parse_special=False)
    assert b"".join(map(tokenizer.token_bytes, token_ids)) == b"the fox"


@pytest.mark.parametrize("text", ["!" * 100_000, " " * 100_000, "x " * 9 + "日" * 2001])
def test_texts_that_would_kill_the_process_are_refused(text: str, tmp_path: Path) -> None:
    needs_llama_library()
    tokenizer = load_tokenizer(write_tiny_model(tmp_path / "falcon.gguf", pre="falcon"))

    with pytest.raises(InvalidRequest, match="2000"):
        tokenizer.encode(text, add_special=False, parse_special=False)


def test_a_rule_that_llama_cpp_does_not_know_either(tmp_path: Path) -> None:
    needs_llama_library()
    path = write_tiny_model(tmp_path / "odd.gguf", pre="no such rule")

    with pytest.raises(ModelFileError, match=r"odd\.gguf"):
        load_tokenizer(path)


def test_a_missing_llama_cpp_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("llama_cpp", "ik_llama_cpp"):
        monkeypatch.setitem(sys.modules, module, None)
    path = write_tiny_model(tmp_path / "falcon.gguf", pre="falcon")

    with pytest.raises(MissingExtra, match=r"lockgate\[cpu\]"):
        load_tokenizer(path)


def test_a_file_without_a_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "empty.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()

    with pytest.raises(ModelFileError, match=r"tokenizer\.ggml\.tokens"):
        load_tokenizer(path)


def merge_all(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """BPE by the book: again and again the first pair of the list, leftmost first."""
    symbols = list(word)
    while True:
        found = [
            (merges.index(pair), place)
            for place, pair in enumerate(pairwise(symbols))
            if pair in merges
        ]
        if not found:
            return symbols
        _, place = min(found)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_accepted_merges_are_what_tiktoken_does(data: st.DataObject) -> None:
    """Random lists of merges: either refused, or tiktoken agrees with the book on every word."""
    merges: list[tuple[str, str]] = []
    symbols = ["a", "b"]
    for _ in range(data.draw(st.integers(1, 7))):
        pair = (data.draw(st.sampled_from(symbols)), data.draw(st.sampled_from(symbols)))
        if pair not in merges:
            merges.append(pair)
            symbols.append(pair[0] + pair[1])
    tokens = [spelling_of(bytes((byte,))) for byte in range(256)]
    tokens += dict.fromkeys(left + right for left, right in merges)
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    ranks = build_ranks(ids, [f"{left} {right}" for left, right in merges], ())
    if ranks is None:
        return
    encoding = tiktoken.Encoding(
        "test", pat_str="(?s:.+)", mergeable_ranks=ranks.ranks, special_tokens={}
    )
    for word in data.draw(st.lists(st.text("ab", min_size=1, max_size=12), max_size=20)):
        want = [ids[symbol] for symbol in merge_all(word, merges)]
        assert encoding.encode_ordinary(word) == want


def test_merges_that_never_happen_are_refused() -> None:
    """ "b c" comes first, so that "ab c" can never be reached, but tiktoken would reach "abc"."""
    tokens = [spelling_of(bytes((byte,))) for byte in range(256)] + ["bc", "ab", "abc"]
    ids = {token: token_id for token_id, token in enumerate(tokens)}

    assert build_ranks(ids, ["b c", "a b", "ab c"], ()) is None
    assert build_ranks(ids, ["a b", "b c", "ab c"], ()) is not None
    assert build_ranks(ids, ["b c", "a b", "ab c", "a bc"], ()) is not None


def test_of_two_equal_merges_the_left_one_happens() -> None:
    """ "aaa" becomes "aa a", never "a aa"."""
    tokens = [spelling_of(bytes((byte,))) for byte in range(256)] + ["aa", "aaa"]
    ids = {token: token_id for token_id, token in enumerate(tokens)}

    assert build_ranks(ids, ["a a", "a aa"], ()) is None
    assert build_ranks(ids, ["a a", "aa a"], ()) is not None


@example(["ab", "b<>"], "ab<>")
@given(
    st.lists(st.text("<|ab>", min_size=1, max_size=4), unique=True, max_size=6),
    st.text("<|ab>", max_size=20),
)
def test_special_tokens_are_cut_out_longest_first(specials: list[str], text: str) -> None:
    ids = {special: index for index, special in enumerate(specials)}
    pieces = list(SpecialTokens(ids).split(text))

    fragments: list[str | int] = [text]
    for special in sorted(specials, key=len, reverse=True):
        cut: list[str | int] = []
        for fragment in fragments:
            parts = fragment.split(special) if isinstance(fragment, str) else []
            cut += [fragment] if isinstance(fragment, int) else [parts[0]]
            for part in parts[1:]:
                cut += [ids[special], part]
        fragments = cut
    assert pieces == [fragment for fragment in fragments if fragment != ""]


# --- the built-in tokenizer ---


def test_bytes_are_tokens() -> None:
    tokenizer = load_tokenizer("")
    assert isinstance(tokenizer, ByteTokenizer)

    assert tokenizer.encode("é", add_special=True, parse_special=True) == [256, 0xC3, 0xA9]
    assert tokenizer.encode("<|im_end|>", add_special=False, parse_special=True) == [259]
    plain = tokenizer.encode("<|im_end|>", add_special=False, parse_special=False)
    assert bytes(plain) == b"<|im_end|>"
    assert [len(tokenizer.token_bytes(i)) for i in (0, 255, 256, 259)] == [1, 1, 0, 0]
