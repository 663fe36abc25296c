"""The table of other servers' fields, applied to each endpoint without a server."""

import re
from collections.abc import Mapping
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from gateway.api.native.tokenize import DETOKENIZE_FIELDS, TOKENIZE_FIELDS
from gateway.api.openai.bodies import (
    CHAT_FIELDS,
    COMPLETION_FIELDS,
    EMBEDDING_FIELDS,
    KINDS,
    RERANK_FIELDS,
    RESPONSE_FIELDS,
    SCORE_FIELDS,
)
from gateway.api.openai.fields.fates import Alias, Fate, Hint, Refused, Spread
from gateway.api.openai.fields.other_servers import ALIASES, HINTS, OTHER_SERVERS, REFUSED
from gateway.api.openai.fields.spreads import SPREADS
from gateway.api.openai.fields.undeclared import UndeclaredFields
from gateway.http.decoding import Settled
from runtime.errors import InvalidRequest
from tests.kit.chat.answers import CHAT, EMBEDDINGS, HI, RERANK, RESPONSES, SCORE, TEXT
from tests.kit.root import ROOT

FIELDS: Mapping[str, tuple[UndeclaredFields[Any], type[Struct], Mapping[str, Any]]] = {
    CHAT: (CHAT_FIELDS, KINDS[CHAT], {"messages": HI}),
    TEXT: (COMPLETION_FIELDS, KINDS[TEXT], {"prompt": "hi"}),
    RESPONSES: (RESPONSE_FIELDS, KINDS[RESPONSES], {"input": "hi"}),
    EMBEDDINGS: (EMBEDDING_FIELDS, KINDS[EMBEDDINGS], {"input": "hi"}),
    RERANK: (RERANK_FIELDS, KINDS[RERANK], {"query": "hi", "documents": ["ho"]}),
    SCORE: (SCORE_FIELDS, KINDS[SCORE], {"text_1": "hi", "text_2": "ho"}),
}
ASKING: list[Any] = [True, False, 3, 0.25, "x", ["x"], {"x": 1}]
SAMPLES: Mapping[str, tuple[Any, Any, Any]] = {
    "max_tokens": (7, 8, "7"),
    "max_output_tokens": (7, 8, "7"),
    "stop": (["a", "b"], "c", 3),
    "min_tokens": (2, 3, -1),
    "seed": (7, 8, "7"),
    "n": (2, 3, 0),
    "thinking_token_budget": (5, 6, -2),
    "guided_regex": ("[ab]", "[cd]", 3),
    "guided_grammar": ('root ::= "x"', 'root ::= "y"', 3),
    "guided_json": ({"type": "object"}, {"type": "string"}, None),
    "include_stop_str_in_output": (True, False, 1),
    "ignore_eos": (True, False, 1),
    "echo": (True, False, 1),
    "truncate_prompt_tokens": (5, 6, "5"),
    "cache_salt": ("a", "b", 3),
    "dimensions": (5, 6, "5"),
    "input_type": ("query", "document", 3),
    "max_tokens_per_doc": (5, 6, "5"),
}
"""For each field that has other names: two values, and one of a wrong type; None if every type is
right."""

TYPED = {
    path: {name for name, kind in get_type_hints(kind).items() if kind is not Any}
    for path, (_, kind, _) in FIELDS.items()
}
"""The fields of each endpoint whose values have a type."""

DOCUMENT = ROOT / "docs" / "openai-compatibility.md"

everywhere = pytest.mark.parametrize("path", FIELDS)


def settled(path: str, unknown: Mapping[str, Any], **declared: Any) -> Settled[Any]:
    fields, kind, body = FIELDS[path]
    data = msgspec.json.decode(msgspec.json.encode({**body, **declared}), type=kind)
    raws = {name: Raw(msgspec.json.encode(each)) for name, each in unknown.items()}
    return fields.settle(data, raws)


def named(path: str, fate: type) -> list[tuple[str, Any]]:
    return [(name, each) for name, each in FIELDS[path][0].fates.items() if isinstance(each, fate)]


def plain(path: str, **declared: Any) -> Any:
    """The body as a client sends it that knows this server's names."""
    return msgspec.json.encode(settled(path, {}, **declared).data)


@everywhere
def test_what_is_refused_is_refused_by_name(path: str):
    """Whatever it asks, and not if it asks for nothing."""
    for name, fate in named(path, Refused):
        for nothing in (None, *fate.neutral):
            assert settled(path, {name: nothing}).data == settled(path, {}).data, name
        for value in ASKING:
            if msgspec.json.encode(value) in [msgspec.json.encode(each) for each in fate.neutral]:
                continue
            with pytest.raises(InvalidRequest, match=f"`{name}`") as caught:
                settled(path, {name: value})
            assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")


@everywhere
def test_a_hint_changes_nothing_and_is_reported(path: str):
    for name, fate in named(path, Hint):
        for value in (None, *ASKING):
            found = settled(path, {name: value})
            assert found.data == settled(path, {}).data
            assert found.ignored == {name: fate.reason}
            assert fate.reason


@everywhere
def test_an_alias_is_the_field_that_it_stands_for(path: str):
    for name, fate in named(path, Alias):
        [target] = fate.names
        value, other, wrong = SAMPLES[target]
        found = settled(path, {name: value})
        assert msgspec.json.encode(found.data) == plain(path, **{target: value}), name
        assert found.names == {target: name}
        assert settled(path, {name: value}, **{target: None}).data == found.data
        assert settled(path, {name: value}, **{target: value}).data == found.data
        for nothing in (None, *fate.unset):
            kept = settled(path, {name: nothing}, **{target: other}).data
            assert msgspec.json.encode(kept) == plain(path, **{target: other})
        with pytest.raises(InvalidRequest, match="differ") as caught:
            settled(path, {name: value}, **{target: other})
        assert caught.value.param == name
        if wrong is not None and target in TYPED[path]:
            with pytest.raises(InvalidRequest) as caught:
                settled(path, {name: wrong})
            assert caught.value.param == name


SPREAD: list[tuple[str, Any, Mapping[str, Any]]] = [
    ("thinking", True, {"enable_thinking": True}),
    ("thinking", False, {"enable_thinking": False}),
    ("thinking", {"type": "disabled"}, {"enable_thinking": False}),
    ("thinking", {"type": "disabled", "budget_tokens": 0}, {"enable_thinking": False}),
    ("thinking", {"type": "adaptive"}, {"enable_thinking": True}),
    ("thinking", {"type": "auto"}, {}),
    (
        "thinking",
        {"type": "enabled", "budget_tokens": 5},
        {"enable_thinking": True, "thinking_token_budget": 5},
    ),
    ("think", True, {"enable_thinking": True}),
    ("think", "low", {"reasoning_effort": "low"}),
    ("reasoning", {}, {}),
    ("reasoning", {"effort": "high", "exclude": False}, {"reasoning_effort": "high"}),
    (
        "reasoning",
        {"max_tokens": 9, "exclude": True, "enabled": True},
        {"thinking_token_budget": 9, "include_reasoning": False, "enable_thinking": True},
    ),
    ("grammar", "", {}),
    ("grammar", 'root ::= "x"', {"guided_grammar": 'root ::= "x"'}),
    ("grammar", {"type": "regex", "value": "[ab]"}, {"guided_regex": "[ab]"}),
    ("grammar", {"type": "json", "value": {"type": "object"}}, {"guided_json": {"type": "object"}}),
    ("format", "json", {"response_format": {"type": "json_object"}}),
    ("format", {"type": "object"}, {"guided_json": {"type": "object"}}),
    ("format", "", {}),
]


@pytest.mark.parametrize(("name", "value", "declared"), SPREAD)
def test_one_value_for_several_fields(name: str, value: Any, declared: Mapping[str, Any]):
    assert msgspec.json.encode(settled(CHAT, {name: value}).data) == plain(CHAT, **declared)
    if not declared:
        assert settled(TEXT, {name: value}).data == settled(TEXT, {}).data
    elif set(declared) - set(KINDS[TEXT].__struct_fields__):
        with pytest.raises(InvalidRequest) as caught:
            settled(TEXT, {name: value})
        assert caught.value.param == name


@pytest.mark.parametrize(
    ("name", "value", "param"),
    [
        ("thinking", {"type": "sometimes"}, "thinking.type"),
        ("thinking", {"budget_tokens": 5}, "thinking.type"),
        ("think", "very much", "think"),
        ("reasoning", {"effort": 3}, "reasoning.effort"),
        ("grammar", {"type": "regex"}, "grammar.value"),
        ("grammar", {"type": "regex", "value": 3}, "grammar"),
        ("format", 3, "format"),
    ],
)
def test_mistakes_in_such_a_value_are_named(name: str, value: Any, param: str):
    with pytest.raises(InvalidRequest) as caught:
        settled(CHAT, {name: value})
    assert caught.value.param == param


def test_every_way_to_spread_is_tried():
    assert {name for name, _, _ in SPREAD} == set(SPREADS)


@everywhere
def test_no_field_of_another_endpoint_is_unknown(path: str):
    fields, kind, _ = FIELDS[path]
    for other in KINDS.values():
        assert set(other.__struct_fields__) <= {*kind.__struct_fields__, *fields.fates}


@pytest.mark.parametrize("fields", [TOKENIZE_FIELDS, DETOKENIZE_FIELDS, EMBEDDING_FIELDS])
def test_where_nothing_is_generated_the_parameters_of_chats_are_hints(
    fields: UndeclaredFields[Any],
):
    for name in ("temperature", "max_tokens", "n_predict", "stop_sequences", "response_format"):
        assert isinstance(fields.fates[name], Hint)


def test_a_name_has_one_fate():
    tables: list[Mapping[str, Fate]] = [ALIASES, REFUSED, HINTS, SPREADS]

    assert sum(map(len, tables)) == len(OTHER_SERVERS) > 250
    for name, fate in OTHER_SERVERS.items():
        assert name.isascii()
        assert isinstance(fate, Alias | Refused | Hint | Spread)
        if isinstance(fate, Alias):
            assert any(set(fate.names) & set(kind.__struct_fields__) for kind in KINDS.values())


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("ab")
NAMES = st.text("ab", max_size=2)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
SENT = st.dictionaries(st.sampled_from(sorted(OTHER_SERVERS)), JSON, max_size=4)


@given(st.sampled_from(sorted(FIELDS)), SENT)
def test_whatever_a_field_says_it_is_taken_or_named(path: str, sent: dict[str, Any]):
    """No value of any field breaks the server, or is dropped without a word."""
    declared = KINDS[path].__struct_fields__
    unknown = {name: each for name, each in sent.items() if name not in declared}
    named_wrong = None
    try:
        found = settled(path, unknown)
    except InvalidRequest as error:
        named_wrong = error.param or ""
        found = settled(path, {})

    hints = {name for name, _ in named(path, Hint)}
    if named_wrong is None:
        assert found.ignored.keys() == unknown.keys() & hints
        assert all("." in name for name in found.unknown), "within an object, such as reasoning.a"
    else:
        assert any(named_wrong.startswith(name) for name in unknown.keys() - hints)


@given(st.sets(st.text(max_size=12).map(lambda text: f"qz{text}")))
def test_names_that_nobody_knows_are_told_apart(names: set[str]):
    """Whatever else is in it, a name that begins so is no field, in any spelling."""
    assert set(settled(CHAT, dict.fromkeys(names, 1)).unknown) == names


def test_the_documentation_has_every_name():
    """With the fate that it has, in three tables."""
    text = DOCUMENT.read_text("utf-8").partition("## Names of other servers")[2]
    found = {}
    for table in text.partition("\n## ")[0].split("\n| ")[1:]:
        found.setdefault(table, None)
    cells = [row.partition(" | ")[0] for row in found]
    names = [name for cell in cells for name in re.findall(r"`([\w.]+)`", cell.partition(":")[0])]

    assert sorted(names) == sorted(OTHER_SERVERS)
