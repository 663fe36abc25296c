"""What a client, and the log, are told of parameters that have no effect or another name."""

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.observability.reports import ignored_parameters
from gateway.observability.reports.ignored_parameters import MAX_NOTED, MAX_UNKNOWN, note_unknown
from gateway.observability.request_record import MAX_NAME, MAX_NAMES, RequestRecord
from tests.kit.chat.answers import CHAT, EMBEDDINGS, HI, RESPONSES, TEXT, error_of, good
from tests.kit.serving import RunningServer

HEADER = "x-ignored-parameters"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HI, "max_tokens": 3},
    TEXT: {"prompt": "hi", "max_tokens": 3},
    RESPONSES: {"input": "hi", "max_output_tokens": 3},
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [1]},
}
REPORTED: list[tuple[str, dict[str, Any], str]] = [
    *((path, {"cache_prompt": True}, "cache_prompt") for path in BODIES),
    *((path, {"never_heard_of": 1}, "never_heard_of") for path in BODIES),
    *((path, {"b_new": 1, "a_new": [2], "seed": 1}, "a_new, b_new") for path in (CHAT, TEXT)),
    (CHAT, {"reasoning_effort": "low"}, "reasoning_effort"),
    (CHAT, {"think": "high"}, "reasoning_effort"),
    (CHAT, {"enable_thinking": True}, "enable_thinking"),
    (CHAT, {"verbosity": "low"}, "verbosity"),
    (TEXT, {"verbosity": "low"}, "verbosity"),
    (TEXT, {"metadata": {"a": "b"}}, "metadata"),
    (RESPONSES, {"verbosity": "low"}, "verbosity"),
    (RESPONSES, {"text": {"verbosity": "high"}}, "text.verbosity"),
    (RESPONSES, {"reasoning": {"effort": "medium"}}, "reasoning.effort"),
    (
        RESPONSES,
        {"reasoning": {"effort": "low"}, "text": {"verbosity": "low"}, "tags": ["a"]},
        "tags, text.verbosity, reasoning.effort",
    ),
    ("/tokenize", {"temperature": 1, "n_predict": 3}, "n_predict, temperature"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "fields", "names"), REPORTED)
def test_a_header_names_what_has_no_effect(
    open_server: RunningServer, path: str, fields: dict[str, Any], names: str, stream: bool
):
    streamed = {"stream": True} if stream and "tokenize" not in path else {}
    response = open_server.post(path, **BODIES[path], **fields, **streamed)

    assert response.status_code == 200, response.text
    assert response.headers[HEADER] == names


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"reasoning_effort": "none", "verbosity": "medium", "enable_thinking": False}),
        (CHAT, {"n_predict": 3, "stop_sequences": ["x"], "thinking": {"type": "disabled"}}),
        (CHAT, {"mirostat": 0, "metadata": {"a": "b"}}),
        (TEXT, {"repeat_penalty": 1, "max_new_tokens": 3}),
        (RESPONSES, {"text": {"verbosity": "medium"}, "reasoning": {"effort": None}}),
    ],
)
def test_what_asks_for_nothing_is_not_reported(
    open_server: RunningServer, path: str, fields: dict[str, Any]
):
    response = open_server.post(path, **BODIES[path], **fields)

    assert response.status_code == 200, response.text
    assert HEADER not in response.headers


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"n_predict": 0, "max_tokens": None}, "n_predict"),
        (TEXT, {"max_new_tokens": "x"}, "max_new_tokens"),
        (CHAT, {"stop_sequences": ["x"] * 65}, "stop_sequences"),
        (CHAT, {"stop_sequences": ["x", 3]}, "stop_sequences[1]"),
        (CHAT, {"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking"),
        (CHAT, {"thinking_budget": 5}, "thinking_budget"),
        (CHAT, {"regex": "[ab]"}, "regex"),
        (CHAT, {"ebnf": 'root ::= "x"'}, "ebnf"),
        (TEXT, {"json_schema": {"type": "object"}}, "json_schema"),
        (TEXT, {"grammar": 'root ::= "x"'}, "grammar"),
        (TEXT, {"min_new_tokens": 9}, "min_new_tokens"),
        (TEXT, {"max_completion_tokens": 4}, "max_completion_tokens"),
    ],
)
def test_a_mistake_has_the_clients_name(
    open_server: RunningServer, path: str, fields: dict[str, Any], param: str
):
    """The scripted engine has no grammars, and refuses them by the field's name."""
    error = error_of(open_server.post(path, **{**BODIES[path], **fields}))

    assert error["param"] == param
    assert f"`{param}`" in error["message"]


def test_an_alias_is_served(open_server: RunningServer):
    plain = good(open_server.post(TEXT, prompt="hi", max_tokens=5, seed=3, min_tokens=2))
    other = good(
        open_server.post(TEXT, prompt="hi", num_predict=5, random_seed=3, min_new_tokens=2)
    )

    assert other["choices"] == plain["choices"]
    assert other["usage"] == plain["usage"]


@pytest.mark.parametrize(
    ("path", "fields", "home"),
    [
        (RESPONSES, {"guided_regex": "x"}, CHAT),
        (RESPONSES, {"structured_outputs": {"regex": "x"}}, TEXT),
        (RESPONSES, {"suffix": "x"}, TEXT),
        (RESPONSES, {"continue_final_message": True}, CHAT),
        (RESPONSES, {"truncate_prompt_tokens": 5}, CHAT),
        (TEXT, {"messages": HI}, CHAT),
        (TEXT, {"functions": [{"name": "f"}]}, CHAT),
        (TEXT, {"chat_template_kwargs": {"a": 1}}, CHAT),
        (TEXT, {"web_search_options": {"a": 1}}, CHAT),
        (TEXT, {"instructions": "x"}, RESPONSES),
        (CHAT, {"prompt": "x"}, TEXT),
        (CHAT, {"suffix": "x"}, TEXT),
        (CHAT, {"input": "x"}, EMBEDDINGS),
        (CHAT, {"max_output_tokens": 4}, ""),
        (CHAT, {"dimensions": 4}, EMBEDDINGS),
    ],
)
def test_a_parameter_of_another_endpoint_is_refused_with_its_home(
    open_server: RunningServer, path: str, fields: dict[str, Any], home: str
):
    [name] = fields
    error = error_of(open_server.post(path, **BODIES[path], **fields))

    assert error["param"] == name
    assert home in error["message"]


def scope(path: str) -> dict[str, Any]:
    made: dict[str, Any] = {"path": path, "path_template": path}
    RequestRecord([]).attach(made)
    return made


def test_the_log_names_a_field_once_for_each_endpoint(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ignored_parameters, "_noted", set())
    with capture_logs() as logs:
        for path in (CHAT, TEXT, CHAT, TEXT):
            note_unknown(scope(path), {"other"})

    assert [(line["event"], line["field"], line["endpoint"]) for line in logs] == [
        ("unknown_field_ignored", "other", CHAT),
        ("unknown_field_ignored", "other", TEXT),
    ]


def test_invented_fields_are_remembered_up_to_a_number(monkeypatch: pytest.MonkeyPatch):
    """A client that invents them has neither memory nor log, and its header stays short."""
    monkeypatch.setattr(ignored_parameters, "_noted", noted := set())
    with capture_logs() as logs:
        for start in range(0, 3 * MAX_NOTED, 100):
            made = scope(CHAT)
            note_unknown(made, {f"field_{number}" for number in range(start, start + 100)})
            assert len(RequestRecord.of(made).ignored) == MAX_UNKNOWN

    assert len(logs) == len(noted) <= MAX_NOTED


def shown_names(names: list[str]) -> tuple[bytes, list[str]]:
    """The header with these names, and what a client reads in it."""
    made = scope(CHAT)
    RequestRecord.of(made).ignored += names
    header = dict(RequestRecord.of(made).response_headers())[HEADER.encode()]
    return header, [unquote(each) for each in header.decode("ascii").split(", ")]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b", "a%20b"),
        ("c,d", "c%2Cd"),
        ("ä", "%C3%A4"),
        ("a\r\nx-evil: 1", "a%0D%0Ax-evil%3A%201"),
        ("100%", "100%25"),
        ("logit_bias['5']", "logit_bias['5']"),
        ("", '""'),
        ("x" * 101, f"{'x' * 100}..."),
        ("狐" * 101, f"{'%E7%8B%90' * 100}..."),
    ],
)
def test_a_name_that_a_header_cannot_hold_is_encoded(name: str, shown: str):
    header, _ = shown_names([name, "plain[0].name"])

    assert header.decode("ascii") == f"{shown}, plain[0].name"


@given(st.lists(st.text(min_size=1, max_size=120), min_size=1, max_size=60))
def test_every_name_can_be_read_in_the_header(names: list[str]):
    header, read = shown_names(names)
    cut = [each if len(each) <= MAX_NAME else f"{each[:MAX_NAME]}..." for each in names]
    wanted = list(dict.fromkeys(cut))

    assert header.isascii()
    assert all(byte >= 32 for byte in header)
    assert len(header) <= 14 * MAX_NAMES
    if sum(len(each[:MAX_NAME]) for each in dict.fromkeys(names)) <= MAX_NAMES:
        assert list(dict.fromkeys(read)) == wanted
    else:
        assert read[-1] == "..."
        assert list(dict.fromkeys(read[:-1])) == wanted[: len(set(read[:-1]))]


def test_a_served_name_is_encoded(open_server: RunningServer):
    response = open_server.post(CHAT, **BODIES[CHAT], **{"naïve": 1, "a b": 2, "c,d": 3})

    assert response.headers[HEADER] == "a%20b, c%2Cd, na%C3%AFve"


@pytest.mark.parametrize("path", [CHAT, RESPONSES, "/tokenize", "/v1/responses/input_tokens"])
def test_variables_that_the_template_does_not_read_are_reported(
    open_server: RunningServer, path: str
):
    body = {CHAT: BODIES[CHAT], "/tokenize": {"messages": HI}}.get(path, {"input": "hi"})
    given = {"nope": 1, "add_no": {"a": [None]}, "strange name": None}
    response = open_server.post(path, **body, chat_template_kwargs=given)

    assert response.status_code == 200, response.text
    names = [f"chat_template_kwargs.{name}" for name in ("add_no", "nope", "strange%20name")]
    assert response.headers[HEADER] == ", ".join(names)
