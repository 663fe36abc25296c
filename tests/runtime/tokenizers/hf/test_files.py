"""Checkpoint folders: the words of the files, chat templates, and a server."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from gateway.chat.template.template import ChatTemplate
from runtime.models.hf_folder import is_checkpoint_folder, read_model_config
from runtime.tokenizers.hf.tokenizer_config import read_tokenizer_config
from runtime.tokenizers.load import load_tokenizer
from tests.kit.models.hf_folders import write_json
from tests.kit.models.tiny_model import CHAT_TEMPLATE
from tests.kit.serving import running_server, scripted_settings
from tests.runtime.tokenizers.hf.harness import Pair, edit, set_key


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


def test_a_whole_server_on_a_folder(qwen2: Path) -> None:
    """Tokens of half characters go through engine, stream and HTTP without breaking any."""
    text = "日本語 naïve 👩‍👩‍👧‍👦🏳️‍🌈 Привет हिन्दी. "
    settings = scripted_settings(model={"tokenizer": str(qwen2)}, text=text)
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
    assert too_much.json()["usage"]["total_tokens"] == 2048  # the limit shrinks to the rest
    assert too_much.json()["choices"][0]["finish_reason"] == "length"
