"""Checkpoint folders: what is refused."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import InvalidRequest, ModelFileError
from runtime.tokenizers.load import load_tokenizer
from tests.kit.models import hf_folders as build
from tests.kit.models.hf_folders import write_folder, write_json
from tests.runtime.tokenizers.hf.harness import ASCII, TEXTS, edit


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
