"""Checkpoint folders: the tokens of transformers, the words of the files, and what is refused."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers

from gateway.settings import ModelSettings, Settings
from gateway.template import ChatTemplate
from runtime import EngineConfig, ScriptedConfig
from runtime.detokenizer import Detokenizer
from runtime.errors import InvalidRequest, ModelFileError
from runtime.hf.bpe import PATTERNS, TiktokenEncoder, same_characters
from runtime.hf.folder import is_checkpoint_folder, read_model_config
from runtime.hf.library import LibraryEncoder
from runtime.hf.tokenizer import HFTokenizer
from runtime.hf.tokenizer_config import read_tokenizer_config
from runtime.tokenizer import load_tokenizer
from tests import hf_folders as build
from tests.hf_folders import NUM_PADDED, write_folder, write_json
from tests.serving import MODEL, running_server
from tests.test_tokenizer import nasty_texts
from tests.tiny_model import CHAT_TEMPLATE

TEXTS = [*nasty_texts(600, seed=1), *["the quick brown fox jumps over the lazy dog "] * 20]
ASCII = [text for text in TEXTS if text.isascii()]
KINDS: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": lambda: build.byte_level(TEXTS, None),
    "qwen2": lambda: build.byte_level(TEXTS, build.QWEN2, nfc=True),
    "llama3": lambda: build.byte_level(
        TEXTS, build.LLAMA3, ignore_merges=True, prefix="<|endoftext|>"
    ),
    "o200k": lambda: build.byte_level(TEXTS, build.O200K),
    "llama2": lambda: build.sentencepiece_bpe(TEXTS),
    "gemma": lambda: build.sentencepiece_bpe(TEXTS, metaspace=True),
    "unigram": lambda: build.unigram(ASCII),
}
BYTE_LEVEL = ("gpt2", "qwen2", "llama3", "o200k")


class Pair:
    """A folder, read by us and by transformers."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.folder = folder
        self.ours = load_tokenizer(folder)
        self.theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        assert isinstance(self.ours, HFTokenizer)

    def assert_same(self, text: str) -> None:
        for special in (True, False):
            ours = self.ours.encode(text, add_special=special, parse_special=True)
            assert ours == self.theirs.encode(text, add_special_tokens=special), ascii(text)


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("hf") / request.param
    return Pair(write_folder(folder, KINDS[request.param]()))


@pytest.fixture(scope="module")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed; `copy` is for that."""
    return write_folder(tmp_path_factory.mktemp("hf") / "tiny-qwen2", KINDS["qwen2"]())


@pytest.fixture
def copy(qwen2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(qwen2, tmp_path / "tiny-qwen2"))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Read a JSON file, change it in place, write it."""
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    write_json(path, document)


def set_key(path: Path, key: str, value: object) -> None:
    edit(path, lambda document: document.update({key: value}))


# --- tokens ---


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
        pieces = "".join(ours.push([token_id]) for token_id in token_ids) + ours.flush()
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


# --- what the files say ---


def test_what_a_folder_says(qwen2: Path) -> None:
    tokenizer = load_tokenizer(qwen2)
    find = Tokenizer.from_file(str(qwen2 / "tokenizer.json")).token_to_id

    assert (tokenizer.max_model_len, tokenizer.chat_template) == (2048, CHAT_TEMPLATE)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert tokenizer.bos_token_id == find("<|endoftext|>")
    assert tokenizer.eos_token_id == find("<|im_end|>")
    assert tokenizer.eog_token_ids == {find("<|endoftext|>"), find("<|im_end|>")}


def test_ends_of_a_generation(copy: Path) -> None:
    """All that generation_config.json names, and tokens that are known for it."""
    extra = 7
    write_json(copy / "generation_config.json", {"eos_token_id": [extra]})
    tokenizer = load_tokenizer(copy)
    assert tokenizer.eos_token_id is not None
    assert {extra, tokenizer.eos_token_id} < tokenizer.eog_token_ids  # and <|endoftext|>

    (copy / "generation_config.json").unlink()
    set_key(copy / "config.json", "eos_token_id", [extra, extra])
    assert read_model_config(copy).eos_token_ids == (extra,)
    assert extra in load_tokenizer(copy).eog_token_ids


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ({"max_position_embeddings": 32768}, 32768),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 512}, "max_position_embeddings": 9}, 512),
        ({}, 0),
        ({"max_position_embeddings": 100, "rope_scaling": {"type": "linear", "factor": 4}}, 400),
        (
            {
                "max_position_embeddings": 100,
                "rope_parameters": {"rope_type": "dynamic", "factor": 2.5, "rope_theta": 1e4},
            },
            250,
        ),
        (
            {
                "max_position_embeddings": 163840,
                "rope_scaling": {
                    "type": "yarn",
                    "factor": 40,
                    "original_max_position_embeddings": 4096,
                },
            },
            163840,
        ),
        (
            {
                "max_position_embeddings": 32768,
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32768,
                },
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "original_max_position_embeddings": 8192,
                },
            },
            131072,
        ),
        (
            {
                "model_type": "gemma3_text",
                "max_position_embeddings": 131072,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}},
            },
            131072,
        ),
    ],
)
def test_context_after_rope_scaling(tmp_path: Path, fields: dict[str, Any], length: int) -> None:
    write_json(tmp_path / "config.json", fields)

    assert read_model_config(tmp_path).max_model_len == length


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"sliding_window": 4096}, 4096),
        ({"sliding_window": 4096, "use_sliding_window": False}, None),
        ({"sliding_window": None}, None),
        ({"text_config": {"sliding_window": 512}}, 512),
        ({}, None),
    ],
)
def test_sliding_window(tmp_path: Path, fields: dict[str, Any], window: int | None) -> None:
    write_json(tmp_path / "config.json", fields)

    assert read_model_config(tmp_path).sliding_window == window


def test_model_config(tmp_path: Path) -> None:
    """As Python writes such files: with a number that strict JSON does not have."""
    (tmp_path / "config.json").write_text(
        '{"architectures": ["A", "B"], "model_type": "a", "vocab_size": 10, "limit": Infinity,'
        ' "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": -1}'
    )
    config = read_model_config(tmp_path)

    assert (config.architecture, config.model_type, config.vocab_size) == ("A", "a", 10)
    assert (config.bos_token_id, config.eos_token_ids, config.pad_token_id) == (1, (2,), -1)
    assert is_checkpoint_folder(tmp_path)
    assert not is_checkpoint_folder(tmp_path / "config.json")


# --- chat templates ---


def test_template_file_counts_more_than_the_configuration(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("from a file")
    assert load_tokenizer(copy).chat_template == "from a file"


def test_named_templates(copy: Path) -> None:
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    set_key(copy / "tokenizer_config.json", "chat_template", named)
    tokenizer = load_tokenizer(copy)
    assert (tokenizer.chat_template, tokenizer.tool_template) == ("d", "t")
    assert read_tokenizer_config(copy).chat_templates == {"default": "d", "tool_use": "t"}

    (copy / "chat_template.jinja").write_text("D")
    (copy / "additional_chat_templates").mkdir()
    (copy / "additional_chat_templates" / "rag.jinja").write_text("R")
    assert read_tokenizer_config(copy).chat_templates == {"default": "D", "rag": "R"}


def test_template_of_older_folders(copy: Path) -> None:
    edit(copy / "tokenizer_config.json", lambda document: document.pop("chat_template"))
    assert load_tokenizer(copy).chat_template is None

    write_json(copy / "chat_template.json", {"chat_template": "old"})
    assert load_tokenizer(copy).chat_template == "old"


def test_templates_see_the_special_tokens(copy: Path) -> None:
    """Same text as transformers renders, in the same sandbox."""
    source = "{{ bos_token }}{{ pad_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    edit(
        copy / "tokenizer_config.json",
        lambda document: document.update(
            chat_template=source, pad_token={"__type": "AddedToken", "content": "<|im_start|>"}
        ),
    )
    pair = Pair(copy)
    ours = ChatTemplate(
        source,
        bos_token=pair.ours.bos_token,
        eos_token=pair.ours.eos_token,
        special_tokens=pair.ours.special_tokens,
    )
    messages = [{"role": "user", "content": "hé"}]

    assert ours.render(messages) == "<|endoftext|><|im_start|>hé"
    assert ours.render(messages) == pair.theirs.apply_chat_template(messages, tokenize=False)
    assert ours.writes_bos(ours.render(messages))


def test_special_tokens_of_older_folders(copy: Path) -> None:
    edit(copy / "tokenizer_config.json", lambda document: document.pop("bos_token"))
    write_json(copy / "special_tokens_map.json", {"bos_token": {"content": "<|im_start|>"}})
    assert load_tokenizer(copy).bos_token == "<|im_start|>"

    set_key(copy / "tokenizer_config.json", "added_tokens_decoder", {})
    assert load_tokenizer(copy).bos_token == ""
    assert load_tokenizer(copy).bos_token_id is None


# --- a server ---


def test_a_whole_server_on_a_folder(qwen2: Path) -> None:
    """Tokens of half characters go through engine, stream and HTTP without breaking any."""
    text = "日本語 naïve 👩‍👩‍👧‍👦🏳️‍🌈 Привет हिन्दी. "
    settings = Settings(
        model=ModelSettings(served_name=MODEL, tokenizer=str(qwen2)),
        engine=EngineConfig(name="scripted", scripted=ScriptedConfig(text=text)),
    )
    tokenizer = load_tokenizer(qwen2)
    prompt = "<|im_start|>user\nhé<|im_end|>\n<|im_start|>assistant\n"
    prompt_ids = tokenizer.encode(prompt, add_special=True, parse_special=True)
    script = tokenizer.encode(text, add_special=False, parse_special=False)
    answer = [script[(sum(prompt_ids) + k) % len(script)] for k in range(200)]
    expected = b"".join(map(tokenizer.token_bytes, answer)).decode("utf-8", "replace")
    assert any(len(tokenizer.token_bytes(token_id)) == 1 for token_id in script)

    with running_server(settings) as server:
        body = {"messages": [{"role": "user", "content": "hé"}], "max_tokens": 200}
        chunks = server.chunks(
            "/v1/chat/completions", **body, stream_options={"include_usage": True}
        )
        whole = server.post("/v1/chat/completions", **body).json()
        too_much = server.post("/v1/chat/completions", **body | {"max_tokens": 2048})

    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]) == expected
    assert whole["choices"][0]["message"]["content"] == expected
    assert chunks[-1]["usage"]["prompt_tokens"] == len(prompt_ids)
    assert too_much.status_code == 400
    assert "context is 2048 tokens" in too_much.json()["error"]["message"]


# --- damage ---


def drop(*path: str) -> Callable[[dict[str, Any]], object]:
    def change(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


def put(value: object, *path: str | int) -> Callable[[dict[str, Any]], object]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


DAMAGE = [
    ("config.json", put("many", "vocab_size"), r"`\$\.vocab_size`"),
    ("config.json", put(-1, "max_position_embeddings"), r"`\$\.max_position_embeddings`"),
    ("config.json", put({"type": "yarn", "factor": "4"}, "rope_scaling"), r"`\$\.factor`"),
    ("config.json", put({"type": "linear", "factor": 0}, "rope_scaling"), r"rope_scaling\.factor"),
    ("config.json", put("x", "text_config"), r"`\$\.text_config`"),
    ("generation_config.json", put(10**6, "eos_token_id"), "`eos_token_id` 1000000 is outside"),
    ("generation_config.json", put([1, "2"], "eos_token_id"), r"`\$\.eos_token_id\[1\]`"),
    ("tokenizer_config.json", put([{"name": "x"}], "chat_template"), r"`\$\.chat_template\[0\]`"),
    ("tokenizer_config.json", put(7, "bos_token"), r"`\$\.bos_token`"),
    (
        "tokenizer_config.json",
        put({"5": {"content": "<tool_call>"}}, "added_tokens_decoder"),
        "a token is there twice",
    ),
    ("tokenizer.json", drop("model"), "required field `model`"),
    ("tokenizer.json", put({}, "model", "vocab"), "`model.vocab`: there is no vocabulary"),
    ("tokenizer.json", put(10**9, "model", "vocab", "a"), r"`\$\.model\.vocab"),
    (
        "tokenizer.json",
        put(5000, "model", "vocab", "a"),
        r"`model\.vocab` has the id 5000, but `vocab_size` in config\.json is",
    ),
    ("tokenizer.json", put(5, "model", "vocab", "a"), "two tokens have the same id"),
    ("tokenizer.json", put("x", "added_tokens", 0, "id"), r"`\$\.added_tokens\[0\]\.id`"),
    ("tokenizer.json", put(3, "added_tokens", 1, "id"), "`added_tokens`: '<|im_start|>' has the"),
    ("tokenizer.json", put(None, "decoder"), "`decoder`: there is none"),
    ("tokenizer.json", put({"type": "WordPiece"}, "decoder"), "`decoder`: 'WordPiece'"),
    ("tokenizer.json", put({"type": "No"}, "pre_tokenizer"), "the tokenizers library cannot read"),
]


@pytest.mark.parametrize(("name", "change", "message"), DAMAGE)
def test_damaged_files_are_named_with_the_field(
    copy: Path, name: str, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(copy / name, change)

    with pytest.raises(ModelFileError, match=message) as caught:
        load_tokenizer(copy)
    assert name in str(caught.value) or "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "JSON|truncated"),
        (b"{", "JSON|truncated"),
        (b"[]", "`object`"),
        (b"\xff\xfe{}", "JSON|UTF-8|utf-8|malformed"),
        (b'{"a":' * 200_000, "JSON|recursion"),
        (b"version https://git-lfs.github.com/spec/v1\noid 1\n", "git lfs pull"),
    ],
)
def test_files_that_are_something_else(copy: Path, name: str, data: bytes, message: str) -> None:
    (copy / name).write_bytes(data)

    with pytest.raises(ModelFileError, match=rf"{name}.*(?:{message})"):
        load_tokenizer(copy)


def test_a_prefix_that_the_merges_do_not_have_is_refused(copy: Path) -> None:
    """The library cuts it off unseen, and then ends the process."""
    document = json.loads((copy / "tokenizer.json").read_text(encoding="utf-8"))
    document["model"]["continuing_subword_prefix"] = "x"
    write_json(copy / "tokenizer.json", document)

    with pytest.raises(ModelFileError, match=r"tokenizer\.json: `model.continuing_subword_prefix`"):
        load_tokenizer(copy)


def test_oversized_files_are_not_read(copy: Path) -> None:
    with (copy / "config.json").open("wb") as file:
        file.truncate(1 << 40)  # a hole: takes no room on the disk

    with pytest.raises(ModelFileError, match=r"config\.json: is larger than 16 MiB"):
        load_tokenizer(copy)


def test_missing_files(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ModelFileError, match=r"tokenizer\.json is missing.*save_pretrained"):
        load_tokenizer(copy)
    (copy / "config.json").unlink()
    with pytest.raises(ModelFileError, match=r"config\.json: cannot be read: No such file"):
        load_tokenizer(copy)


def test_wordpiece_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "bert", build.wordpiece(ASCII))

    with pytest.raises(ModelFileError, match=r"tokenizer\.json: `decoder`: 'WordPiece'"):
        load_tokenizer(folder)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_damage_is_a_model_file_error_or_harmless(
    small: Path, damaged: Path, data: st.DataObject
) -> None:
    """A value somewhere in one of the files is replaced by something else."""
    names = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
    name = data.draw(st.sampled_from(names))
    document = json.loads((small / name).read_text(encoding="utf-8"))
    seed = data.draw(st.integers(0, 2**32))
    spoil(document, random.Random(seed))
    for other in names:
        shutil.copy(small / other, damaged / other)
    write_json(damaged / name, document)
    try:
        tokenizer = load_tokenizer(damaged)
    except ModelFileError:
        return
    try:
        token_ids = tokenizer.encode("the <|im_end|>", add_special=True, parse_special=True)
    except InvalidRequest:
        return
    assert all(0 <= token_id < tokenizer.vocab_size for token_id in token_ids)
    assert all(isinstance(tokenizer.token_bytes(token_id), bytes) for token_id in token_ids)


def spoil(document: Any, rnd: random.Random) -> None:
    """Goes down a random way and replaces what it finds there."""
    values: tuple[object, ...] = (
        None,
        -1,
        0,
        2**40,
        1e300,
        "",
        "x",
        [],
        {},
        True,
        [None],
        {"type": 1},
    )
    while True:
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        key = rnd.choice(keys)
        inner = document[key]
        if not isinstance(inner, dict | list) or not inner or rnd.random() < 0.2:
            document[key] = rnd.choice(values)
            return
        document = inner


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = build.byte_level(TEXTS, build.LLAMA3, prefix="<|endoftext|>", vocab_size=300)
    return write_folder(tmp_path_factory.mktemp("hf") / "small", tokenizer)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hf-damaged")
