"""The default model's vocabulary as a checkpoint folder: the same tokens as its GGUF file and
transformers give."""

import json
import unicodedata
from pathlib import Path

import pytest
import tiktoken
from transformers import AutoTokenizer

from runtime.models.gguf import GGUFFile, read_gguf
from runtime.models.store import ModelStore
from runtime.tokenizers.hf.bpe import TiktokenEncoder
from runtime.tokenizers.hf.tokenizer import HFTokenizer
from runtime.tokenizers.load import load_tokenizer
from runtime.tokenizers.tokenizer import Tokenizer
from tests.kit.models.hf_folders import QWEN2, write_json
from tests.kit.models.texts import FIELDS, nasty_texts

NORMAL, CONTROL = 1, 3
# Finds nothing but letters and numbers that came after Unicode 15.0.
YOUNG = tiktoken.Encoding(
    "young",
    pat_str=r"[[\p{L}\p{N}]--\p{Age=15.0}]",
    mergeable_ranks={bytes((byte,)): byte for byte in range(256)},
    special_tokens={},
)


@pytest.fixture(scope="module")
def gguf_path() -> Path:
    model = ModelStore().find("qwen2.5-coder-0.5b-instruct")
    if not model.is_present:
        pytest.skip("the default model has not been pulled: lockgate pull")
    return model.path


@pytest.fixture(scope="module")
def folder(gguf_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the model's makers lay it out, filled from the GGUF file."""
    file = read_gguf(gguf_path)
    folder = tmp_path_factory.mktemp("hf") / "Qwen2.5-Coder-0.5B-Instruct"
    folder.mkdir()
    tokens = file.strings("tokenizer.ggml.tokens")
    bos, eos = (file.number(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos"))
    assert bos is not None
    assert eos is not None
    write_json(folder / "tokenizer.json", tokenizer_document(file, tokens))
    write_json(
        folder / "config.json",
        {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "vocab_size": len(tokens),
            "max_position_embeddings": file.max_model_len,
        },
    )
    write_json(folder / "generation_config.json", {"eos_token_id": [eos, bos]})
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "bos_token": tokens[bos],
            "eos_token": tokens[eos],
            "chat_template": file.text("tokenizer.chat_template"),
        },
    )
    return folder


def tokenizer_document(file: GGUFFile, tokens: list[str]) -> dict[str, object]:
    kinds = file.integers("tokenizer.ggml.token_type")
    assert kinds is not None
    used = [(i, text) for i, text in enumerate(tokens) if not text.startswith("[PAD")]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": token_id,
                "content": text,
                "special": kinds[token_id] == CONTROL,
                **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
            }
            for token_id, text in used
            if kinds[token_id] != NORMAL
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": QWEN2},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {**byte_level, "use_regex": False},
            ],
        },
        "post_processor": {**byte_level, "use_regex": False},
        "decoder": {**byte_level, "use_regex": False},
        "model": {
            "type": "BPE",
            "vocab": {text: i for i, text in used if kinds[i] == NORMAL},
            "merges": file.strings("tokenizer.ggml.merges"),
        },
    }


@pytest.fixture(scope="module")
def ours(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def test_same_vocabulary_as_the_gguf_file(ours: Tokenizer, gguf_path: Path) -> None:
    """But for the texts of padding, which no model says, and for the word "</s>", which llama.cpp
    takes for the end of a generation wherever there is one."""
    theirs = load_tokenizer(gguf_path)
    word = read_gguf(gguf_path).strings("tokenizer.ggml.tokens").index("</s>")

    assert isinstance(ours, HFTokenizer)
    assert isinstance(ours.encoder, TiktokenEncoder)
    for name in set(FIELDS) - {"eog_token_ids", "control_tokens"}:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.eog_token_ids == theirs.eog_token_ids - {word}
    assert ours.control_tokens == theirs.control_tokens - {"</s>"}
    assert ours.token_bytes(word) == b"</s>"
    different = [i for i in range(ours.vocab_size) if ours.token_bytes(i) != theirs.token_bytes(i)]
    for token_id in set(different) - {word}:
        assert ours.token_bytes(token_id) == b""
        assert theirs.token_bytes(token_id).startswith(b"[PAD")


def test_same_tokens_as_the_gguf_file(ours: Tokenizer, gguf_path: Path) -> None:
    """But for texts that NFC changes, because llama.cpp does not normalise, for letters and numbers
    that are younger than its tables, and for that word."""
    theirs = load_tokenizer(gguf_path)
    texts = [text for text in nasty_texts(4000) if "</s>" not in text and is_old_and_normal(text)]
    assert len(texts) > 1500
    for text in texts:
        for special in (True, False):
            options = {"add_special": special, "parse_special": special}
            assert ours.encode(text, **options) == theirs.encode(text, **options), ascii(text)


def is_old_and_normal(text: str) -> bool:
    return unicodedata.is_normalized("NFC", text) and not YOUNG.encode_ordinary(text)


def test_same_tokens_as_transformers(ours: Tokenizer, folder: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    messages = [{"role": "user", "content": "naïve 日本語?"}]
    prompt = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    code = Path(__file__).read_text(encoding="utf-8")
    for text in (prompt, code, json.dumps(code), *nasty_texts(3000, seed=9)):
        want = theirs.encode(text)
        assert ours.encode(text, add_special=True, parse_special=True) == want, ascii(text)
        shown = theirs.decode(want, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        plain = b"".join(map(ours.token_bytes, want)).decode("utf-8", "replace")
        if "<|" not in text:  # tokens such as <|fim_pad|> are text for transformers
            assert plain == shown, ascii(text)
