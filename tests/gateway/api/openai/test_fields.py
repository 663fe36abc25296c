"""Every field that clients may send is honoured, harmless or refused by name: none is dropped."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    StreamOptions,
)
from gateway.api.openai.translate.tools import find_tool_use
from gateway.chat.tools.dialects.generic import GENERIC
from gateway.chat.tools.tool_constraint import make_tool_constraint
from runtime.tokenizers.load import load_tokenizer
from tests.kit.jobs import chat, chat_requests, completion_requests
from tests.kit.openai.fields import CHAT, CHAT_EXTENSIONS, COMPLETION, EXTENSIONS, Field
from tests.kit.root import ROOT
from tests.kit.serving import RunningServer, scripted_settings, server_of

ENDPOINTS: Mapping[str, tuple[Mapping[str, Field], Mapping[str, Any]]] = {
    "/v1/chat/completions": (
        {**CHAT, **CHAT_EXTENSIONS},
        {"messages": [{"role": "user", "content": "hi"}], "seed": 1, "max_tokens": 60},
    ),
    "/v1/completions": (
        {**EXTENSIONS, **COMPLETION},
        {"prompt": "hi", "seed": 1, "max_tokens": 60},
    ),
}
DOCUMENT = ROOT / "docs" / "openai-compatibility.md"

every_field = pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, (known, _) in ENDPOINTS.items() for name in known]
)


thinker = server_of(
    scripted_settings(model={"reasoning_parser": "deepseek_r1"}, text="The quick brown fox, 狐狸! ")
)
"""It thinks from its first token on."""


def answer(server: RunningServer, path: str, body: Mapping[str, Any]) -> Any:
    """What a client gets, without what differs each time."""
    response = server.post(path, **body)
    assert response.status_code == 200, response.text
    text = re.sub(r'"(id|created)":("[^"]*"|\d+),?', "", response.text)
    return response.headers["content-type"], text


def requests(path: str, body: Mapping[str, Any]) -> list[Any]:
    """What the engine gets."""
    if "chat" not in path:
        return completion_requests([[1]], **body)
    use = find_tool_use(chat(**body))
    tokenizer = load_tokenizer("")
    calls = (
        None if use is None else make_tool_constraint(use, GENERIC, tokenizer, None, has_tags=True)
    )
    return chat_requests(1, calls=calls, **body)


@every_field
def test_a_field_has_its_fate(
    open_server: RunningServer, thinker: RunningServer, path: str, name: str
):
    known, base = ENDPOINTS[path]
    field = known[name]
    plain = {**base, **field.beside}
    changed = {**plain, name: field.value}
    if field.fate == "refused":
        response = open_server.post(path, **changed)
        error = response.json()["error"]
        assert (response.status_code, error["param"]) == (400, name)
        assert error["code"] == "unsupported_parameter"
        for neutral in (None, *field.neutral):
            assert answer(open_server, path, {**plain, name: neutral}) == answer(
                open_server, path, plain
            )
    elif field.fate == "harmless":
        assert answer(open_server, path, changed) == answer(open_server, path, plain)
    elif field.shows_in == "refusal":
        error = open_server.post(path, **changed).json()["error"]
        assert (error["param"], error["code"]) == (name, "unsupported_parameter")
        assert requests(path, changed) != requests(path, plain)
    elif field.shows_in == "thought":
        assert answer(thinker, path, changed) != answer(thinker, path, plain)
        for neutral in (None, *field.neutral):
            assert answer(open_server, path, {**plain, name: neutral}) == answer(
                open_server, path, plain
            )
        if name == "thinking_token_budget":
            error = open_server.post(path, **changed).json()["error"]
            assert (error["param"], error["code"]) == (name, "unsupported_parameter")
        else:
            assert answer(open_server, path, changed) == answer(open_server, path, plain)
    elif field.shows_in == "answer":
        assert answer(open_server, path, changed) != answer(open_server, path, plain)
    elif name == "chat_template_kwargs":
        answer(
            open_server, path, changed
        )  # tests/gateway/chat/template/test_template.py says what it does
    elif name == "model":
        assert open_server.post(path, **plain, model="other").status_code == 404
    else:
        answer(open_server, path, changed)
        assert requests(path, changed) != requests(path, plain)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_declared_field_is_on_the_list(path: str):
    kind = ChatCompletionRequest if "chat" in path else CompletionRequest
    known, _ = ENDPOINTS[path]
    declared = set(kind.__struct_fields__)

    assert known.keys() == declared


def test_the_documentation_has_a_row_for_each_field():
    """With the fate that the field has; one that only one endpoint honours is honoured there.
    Responses and embeddings have tables of their own behind those of chats and completions."""
    text, _, _ = DOCUMENT.read_text("utf-8").partition("## Responses")
    rows = re.findall(r"^\| `([a-z_.]+)` \| (\w+)", text, re.MULTILINE)
    documented = [(name, fate) for name, fate in rows if "." not in name]
    known: dict[str, str] = {}
    for table, _ in ENDPOINTS.values():
        for name, field in table.items():
            if known.get(name) != "honoured":
                known[name] = field.fate

    assert dict(documented) == known
    assert len(documented) == len(known)


def test_options_of_a_stream_are_documented():
    names = {f"stream_options.{name}" for name in StreamOptions.__struct_fields__}

    assert all(f"| `{name}` |" in DOCUMENT.read_text("utf-8") for name in names)
