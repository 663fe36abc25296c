"""Tokenizers that put a space before the first word of a text: it is no part of the text."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Environment

from tests.kit.chat.answers import HI, TEXT, good
from tests.kit.models.hf_folders import sentencepiece_bpe, write_folder
from tests.kit.serving import RunningServer, running_server, scripted_settings

TEXTS = ["Hello there, you.", "The quick brown fox.", "a b c d"] * 20


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = write_folder(tmp_path_factory.mktemp("spm") / "model", sentencepiece_bpe(TEXTS))
    with running_server(scripted_settings(model={"tokenizer": str(folder)})) as running:
        yield running


@pytest.mark.parametrize("prompt", ["Hello there", " Hello", "a", "  two", "é", "Hello\nHello"])
@pytest.mark.parametrize("fields", [{}, {"logprobs": 1}, {"logprobs": 1, "stream": True}])
def test_an_echo_begins_with_the_prompt(spaced: RunningServer, prompt: str, fields: dict[str, Any]):
    body = {"prompt": prompt, "max_tokens": 3, "echo": True, **fields}
    if "stream" in fields:
        chunks = spaced.chunks(TEXT, **{k: v for k, v in body.items() if k != "stream"})
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        text = "".join(choice["text"] for choice in choices)
        told = [choice["logprobs"] for choice in choices if choice["logprobs"]]
        offsets = [offset for each in told for offset in each["text_offset"]]
    else:
        [choice] = good(spaced.post(TEXT, **body))["choices"]
        text = choice["text"]
        offsets = [] if choice["logprobs"] is None else choice["logprobs"]["text_offset"]

    assert text.startswith(prompt)
    assert not offsets or (offsets[0] == 0 and offsets == sorted(offsets))


def test_the_tokens_of_an_echo_are_its_text(spaced: RunningServer):
    [choice] = good(spaced.post(TEXT, prompt="Hello there", max_tokens=0, echo=True, logprobs=0))[
        "choices"
    ]
    told = choice["logprobs"]

    assert choice["text"] == "Hello there"
    assert "".join(told["tokens"][1:]) == "Hello there"  # behind the token that begins a text
    for token, offset in zip(told["tokens"][1:], told["text_offset"][1:], strict=True):
        assert choice["text"][offset:].startswith(token)


@settings(max_examples=40, deadline=None)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_text_survives_its_tokens(spaced: RunningServer, text: str):
    tokens = good(spaced.post("/tokenize", prompt=text, add_special_tokens=False))["tokens"]

    assert good(spaced.post("/detokenize", tokens=tokens)) == {"prompt": text}


def test_a_client_makes_the_servers_prompts(spaced: RunningServer):
    """As evaluation tools with a remote tokenizer do: the template is the client's to render."""
    told = good(spaced.http.get("/tokenizer_info"))

    assert (told["bos_token"], told["eos_token"]) == ("<s>", "</s>")
    assert told["pad_token"] is None
    template = Environment().from_string(told["chat_template"])
    prompt = template.render(messages=HI, add_generation_prompt=True, **told)
    by_text = good(spaced.post("/tokenize", prompt=prompt))
    by_messages = good(spaced.post("/tokenize", messages=HI))
    assert by_text["tokens"] == by_messages["tokens"]
    assert told["model_max_length"] == by_text["max_model_len"]
