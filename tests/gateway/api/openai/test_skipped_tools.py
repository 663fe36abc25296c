"""Tools that are no functions: skipped and reported, and the rest is served."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.openai.responses.protocol import decode_response_request, tools_of
from gateway.api.openai.responses.tools import find_tool_use as response_tool_use
from gateway.api.openai.translate.tools import find_tool_use, no_functions
from runtime.errors import InvalidRequest
from tests.kit.chat.answers import CHAT, HI, RESPONSES, error_of, good
from tests.kit.jobs import chat
from tests.kit.serving import RunningServer

HEADER = "x-ignored-parameters"
FUNCTION = {"name": "look_up", "parameters": {"type": "object", "properties": {}}}
OTHERS: list[dict[str, Any]] = [
    {"type": "web_search"},
    {"type": "web_search_preview", "search_context_size": "low"},
    {"type": "namespace", "name": "crm", "tools": [{"type": "function", **FUNCTION}]},
    {"type": "local_shell"},
    {"type": "shell"},
    {"type": "apply_patch"},
    {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark"}},
    {"type": "file_search", "vector_store_ids": ["a"]},
    {"type": "mcp", "server_label": "a", "server_url": "https://a.example"},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "image_generation"},
    {"type": "computer_use_preview", "display_width": 1},
    {"type": "tool_search"},
    {"type": "x" * 1000},
    {"type": ""},
]
KINDS = [
    (CHAT, {"messages": HI, "max_tokens": 3}, {"type": "function", "function": FUNCTION}),
    (RESPONSES, {"input": "hi", "max_output_tokens": 3}, {"type": "function", **FUNCTION}),
    (f"{RESPONSES}/input_tokens", {"input": "hi"}, {"type": "function", **FUNCTION}),
]

both = pytest.mark.parametrize(("path", "body", "function"), KINDS)


@both
@pytest.mark.parametrize("other", OTHERS, ids=lambda other: other["type"][:20])
def test_the_rest_is_served(
    open_server: RunningServer, path: str, body: dict, function: dict, other: dict
):
    alone = open_server.post(path, **body, tools=[function])
    beside = open_server.post(path, **body, tools=[other, function, other])

    def tokens(answer: dict) -> object:
        return answer.get("usage", answer)

    assert tokens(good(beside)) == tokens(good(alone))
    assert HEADER not in alone.headers
    assert beside.headers[HEADER] == "tools[0], tools[2]"


@both
def test_nothing_but_such_tools(open_server: RunningServer, path: str, body: dict, function: dict):
    """They are as no tools; but then nothing can be required."""
    for choice in ({}, {"tool_choice": "auto"}, {"tool_choice": "none"}):
        assert open_server.post(path, **body, tools=OTHERS, **choice).status_code == 200
    error = error_of(open_server.post(path, **body, tools=OTHERS, tool_choice="required"))
    assert error["param"] == "tool_choice"
    assert "none that this server can offer" in error["message"]


def choices(path: str, names: list[str]) -> list[Any]:
    """Choices of tools that were skipped."""
    flat = [{"type": name} for name in names]
    if path != CHAT:
        flat += [{"type": "custom", "name": "c"}, {"type": "mcp", "server_label": "a"}]
        subset: dict[str, Any] = {"type": "allowed_tools", "mode": "auto"}
        return [*flat, {**subset, "tools": flat}, {"type": "function", "name": "c"}]
    custom = {"type": "custom", "custom": {"name": "c"}}
    allowed = {"mode": "auto", "tools": [custom]}
    named = {"type": "function", "function": {"name": "c"}}
    return [*flat, custom, {"type": "allowed_tools", "allowed_tools": allowed}, named]


@both
def test_a_choice_of_a_skipped_tool_is_refused(
    open_server: RunningServer, path: str, body: dict, function: dict
):
    tools = [function, *OTHERS]
    for choice in choices(path, ["web_search", "local_shell"]):
        error = error_of(open_server.post(path, **body, tools=tools, tool_choice=choice))
        assert error["param"].startswith("tool_choice"), choice


MIXTURES = st.lists(st.sampled_from([None, *OTHERS]), max_size=12)


@given(MIXTURES)
def test_functions_are_those_of_a_request_without_the_others(mixture: list[dict | None]):
    """And errors name the places that the client has sent them at."""
    named = [
        {**FUNCTION, "name": f"f{place}"} if other is None else other
        for place, other in enumerate(mixture)
    ]
    places = [place for place, other in enumerate(mixture) if other is None]
    for kind in ("chat", "response"):
        use, skipped = read(kind, named)
        found = () if use is None else use.functions
        assert [each.name for each in found] == [f"f{place}" for place in places]
        assert {each.where.partition(".")[0] for each in found} == {f"tools[{i}]" for i in places}
        assert set(skipped) == set(range(len(mixture))) - set(places)
        if places:
            broken = [dict(each) for each in named]
            broken[places[-1]]["parameters"] = []
            with pytest.raises(InvalidRequest) as caught:
                read(kind, broken)
            assert (caught.value.param or "").startswith(f"tools[{places[-1]}]")


def read(kind: str, tools: list[dict[str, Any]]) -> tuple[Any, list[int]]:
    """The functions, and the places of the tools that are skipped."""
    if kind == "chat":
        wrapped = [
            each if "type" in each else {"type": "function", "function": each} for each in tools
        ]
        data = chat(tools=wrapped)
        return find_tool_use(data), [int(place[6:-1]) for place in no_functions(data)]
    flat = [each if "type" in each else {"type": "function", **each} for each in tools]
    body = decode_response_request(msgspec.json.encode({"input": "hi", "tools": flat}))
    found = tools_of(body)
    return response_tool_use(body, found), list(found.skipped)


def test_the_response_repeats_what_the_model_was_told(open_server: RunningServer):
    tools = [OTHERS[0], {"type": "function", **FUNCTION}]
    answer = good(open_server.post(RESPONSES, input="hi", max_output_tokens=3, tools=tools))

    assert [tool["name"] for tool in answer["tools"]] == ["look_up"]
    assert "web_search" not in json.dumps(answer["tools"])
