"""Dialects whose arguments are text between tags: types come from the tool's schema, whatever is
said fits it, and a stream says what the whole text says."""

import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given as generated
from hypothesis import settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.api.openai.protocol.requests import decode_chat_completion
from gateway.api.openai.translate.tools import find_tool_use
from gateway.chat.parsing.pieces import CallArguments, Content
from gateway.chat.tools.dialect import Dialect
from gateway.chat.tools.find_dialect import DIALECTS
from gateway.chat.tools.tool_constraint import ToolConstraint, make_tool_constraint
from runtime.errors import InvalidRequest
from runtime.structured.grammars import GrammarCompiler
from tests.kit import grammars
from tests.kit.chat.cuts import calls_in, cut, places, read
from tests.kit.chat.tools import written
from tests.kit.grammars import TOKENIZER

TAGGED = [each for each in DIALECTS.values() if each.form is not None and each.form.arguments]
all_dialects = pytest.mark.parametrize("dialect", TAGGED, ids=lambda each: each.name)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "share": {"type": ["number", "null"]},
        "sure": {"type": "boolean"},
        "note": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "integer"}]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
        "place": {"$ref": "#/$defs/place"},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {
        "tag": {"type": "string", "enum": ["a", "b"]},
        "place": {
            "type": "object",
            "properties": {"x": {"type": "number"}, "tag": {"$ref": "#/$defs/tag"}},
            "required": ["x"],
            "additionalProperties": False,
        },
    },
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "get_weather": SCHEMA,
    "stop-all": {"type": "object", "properties": {}, "additionalProperties": False},
}
GOOD: dict[str, Any] = {"city": "Oslo \n<b>", "days": 3, "unit": "celsius", "share": 0.5}
GOOD |= {"sure": True, "note": "7 up", "tags": ["a", "b"], "place": {"x": 1.5, "tag": "a"}}


def plan(dialect: Dialect, *, has_tags: bool = True, **body: Any) -> ToolConstraint:
    tools = [
        {"type": "function", "function": {"name": name, "parameters": schema}}
        for name, schema in SCHEMAS.items()
    ]
    raw = json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": tools} | body
    )
    use = find_tool_use(decode_chat_completion(raw.encode()))
    assert use is not None
    return make_tool_constraint(use, dialect, TOKENIZER, None, has_tags=has_tags)


def takes(compiler: GrammarCompiler, asked: ToolConstraint, text: str) -> bool:
    assert asked.structured_output is not None
    return grammars.takes(compiler, asked.structured_output, text)


def said(dialect: Dialect, schema: dict[str, Any], texts: Iterable[str]) -> list[tuple[str, str]]:
    parser = dialect.new_parser({"f": schema}, lambda: "call", None)
    pieces = read(parser, texts)
    assert not any(isinstance(piece, Content) for piece in pieces)
    return calls_in(pieces)


def call_of(dialect: Dialect, *calls: tuple[str, dict[str, Any]]) -> str:
    return written(dialect, [(name, json.dumps(given)) for name, given in calls])


@all_dialects
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("choice", ["auto", "required", "named"])
def test_calls_fit_their_schema(
    compiler: GrammarCompiler, dialect: Dialect, strict: bool, choice: str
) -> None:
    form = dialect.form
    assert form is not None
    function = {"name": "get_weather", "parameters": SCHEMA, "strict": strict}
    named = {"type": "function", "function": {"name": "get_weather"}}
    asked = plan(
        dialect,
        tools=[{"type": "function", "function": function}],
        tool_choice=named if choice == "named" else choice,
    )
    before = "" if choice == "auto" else form.before
    text = before + call_of(dialect, ("get_weather", GOOD))
    assert takes(compiler, asked, text)
    pieces = read(asked.new_parser(), [text])
    [(name, arguments)] = calls_in(pieces)
    assert (name, json.loads(arguments)) == ("get_weather", GOOD)
    assert takes(compiler, asked, "Hi") == (choice == "auto")
    for change in (
        {"days": 10},
        {"days": "x"},
        {"unit": "kelvin"},
        {"share": "x"},
        {"sure": "x"},
        {"note": "longer"},
        {"tags": ["c"]},
        {"place": {"y": 1}},
        {"more": 1},
    ):
        assert not takes(compiler, asked, before + call_of(dialect, ("get_weather", GOOD | change)))
    for missing in ("city", "days"):
        rest = {key: value for key, value in GOOD.items() if key != missing}
        assert not takes(compiler, asked, before + call_of(dialect, ("get_weather", rest)))


@all_dialects
def test_text_around_and_several_calls(compiler: GrammarCompiler, dialect: Dialect) -> None:
    form = dialect.form
    assert form is not None
    calls = [("stop-all", {}), ("get_weather", {"city": "Oslo", "days": 3}), ("stop-all", {})]
    text = f"I ask.\n{form.before}{call_of(dialect, *calls)}"
    asked = plan(dialect)
    assert takes(compiler, asked, text)
    for parts in ([text], text):
        pieces = read(asked.new_parser(), parts)
        assert pieces[0] == Content("I ask.")
        assert [(name, json.loads(given)) for name, given in calls_in(pieces)] == calls
    single = plan(dialect, parallel_tool_calls=False)
    assert not takes(compiler, single, text)
    assert [name for name, _ in calls_in(read(single.new_parser(), [text]))] == ["stop-all"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab"\\{}[]<>é\n', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", min_size=1), inner),
    max_leaves=5,
)
objects = st.dictionaries(st.sampled_from(["city", "unit", "ä b"]), values, max_size=3)


def schema_of(value: Any) -> dict[str, Any]:
    kinds = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
    return {"type": kinds.get(type(value), "null")}


@all_dialects
@settings(max_examples=60)
@generated(given=objects, places=places)
def test_values_come_back_however_they_are_cut(dialect, given, places) -> None:
    schema = {"properties": {key: schema_of(value) for key, value in given.items()}}
    text = call_of(dialect, ("f", given))
    [(name, arguments)] = said(dialect, schema, [text])
    assert (name, json.loads(arguments)) == ("f", given)
    assert said(dialect, schema, cut(text, places)) == [(name, arguments)]
    assert said(dialect, schema, text) == [(name, arguments)]


@all_dialects
@settings(max_examples=40)
@generated(given=objects, data=st.data())
def test_a_call_that_was_cut_off_is_a_beginning(dialect, given, data) -> None:
    schema = {"properties": {key: schema_of(value) for key, value in given.items()}}
    text = call_of(dialect, ("f", given))
    [(_, whole)] = said(dialect, schema, [text])
    parser = dialect.new_parser({"f": schema}, lambda: "call", None)
    found = calls_in(read(parser, [text[: data.draw(st.integers(0, len(text)))]]))
    assert len(found) <= 1
    if found:
        assert whole.startswith(found[0][1])


TYPED = [
    ({"type": "string"}, "5", '"5"'),
    ({"type": "string"}, '"5"', '"\\"5\\""'),
    ({"type": "string"}, "True", '"True"'),
    ({"type": "integer"}, "5", "5"),
    ({"type": "integer"}, " 5 ", "5"),
    ({"type": "integer"}, "five", '"five"'),
    ({"type": "integer"}, "5.5", "5.5"),
    ({"type": "number"}, "1e3", "1e3"),
    ({"type": "boolean"}, "True", "true"),
    ({"type": "boolean"}, "false", "false"),
    ({"type": "null"}, "None", "null"),
    ({"type": ["string", "null"]}, "null", "null"),
    ({"type": ["string", "null"]}, "5", '"5"'),
    ({"type": ["integer", "string"]}, "5", "5"),
    ({"anyOf": [{"type": "string"}, {"type": "array"}]}, '["a"]', '["a"]'),
    ({"anyOf": [{"type": "string"}, {"type": "array"}]}, '{"a": 1}', '"{\\"a\\": 1}"'),
    ({"type": "object"}, '{\n "a": 1\n}', '{\n "a": 1\n}'),
    ({"enum": [1, "1x", None]}, "1", "1"),
    ({"enum": [1, "1x", None]}, "1x", '"1x"'),
    ({"const": "a"}, " a ", '"a"'),
    ({"$ref": "#/$defs/n"}, "7", "7"),
    ({"$ref": "#/nowhere"}, "7", "7"),
    ({}, "7", "7"),
    ({}, "seven", '"seven"'),
    (True, '{"a": []}', '{"a": []}'),
    ({"allOf": [{"type": "integer"}]}, "7", "7"),
    ({"type": "nonsense"}, "7", "7"),
]


@all_dialects
@pytest.mark.parametrize(("schema", "text", "value"), TYPED)
def test_the_type_is_the_one_of_the_schema(
    dialect: Dialect, schema: Any, text: str, value: str
) -> None:
    root = {"properties": {"a": schema}, "$defs": {"n": {"type": "integer"}}}
    call = call_of(dialect, ("f", {"a": "VALUE"})).replace("VALUE", text)
    for parts in ([call], call):
        assert said(dialect, root, parts) == [("f", f'{{"a": {value}}}')]


QWEN = DIALECTS["qwen3_coder"]
MINIMAX = DIALECTS["minimax_m2"]
GLM = DIALECTS["glm45"]


@pytest.mark.parametrize(
    ("dialect", "text", "content", "calls"),
    [
        (
            QWEN,
            "<function=f>\n<parameter=a>\nx\n</parameter>\n</function>\n</tool_call>",
            "",
            [("f", '{"a": "x"}')],
        ),
        (
            QWEN,
            "<tool_call><function=f><parameter=a>x</parameter></function></tool_call>",
            "",
            [("f", '{"a": "x"}')],
        ),
        (
            QWEN,
            "Hm.\n\n<tool_call>\n<function=f>\n</function>\n</tool_call>\nDone.",
            "Hm.\nDone.",
            [("f", "{}")],
        ),
        (QWEN, "<tool_call>\n<function=g>\n</function>\n</tool_call>", None, []),
        (QWEN, "Use <function=g> or <tool_call>.", None, []),
        (QWEN, "<tool_call>\n<function=f>\nWell", "\nWell", [("f", "{}")]),
        (QWEN, "<function=f></function><tool_call>\n<fun", "", [("f", "{}")]),
        (
            GLM,
            "<tool_call>f<arg_key>a</arg_key><arg_value>x\n</arg_value></tool_call>",
            "",
            [("f", '{"a": "x\\n"}')],
        ),
        (GLM, "<tool_call>f</tool_call><tool_call>f</tool_call>", "", [("f", "{}"), ("f", "{}")]),
        (GLM, "<tool_call>g</tool_call>", None, []),
        (
            MINIMAX,
            '<function_calls><invoke name="f"><parameter name="a" string="true">x</parameter>'
            "</invoke></function_calls>",
            "",
            [("f", '{"a": "x"}')],
        ),
    ],
)
def test_what_models_write(dialect: Dialect, text: str, content: str | None, calls: Any) -> None:
    """Without the outer tags, without blanks, and what is no call, which is unchanged content."""
    for parts in ([text], text):
        pieces = read(dialect.new_parser({"f": {}}, lambda: "call", None), parts)
        told = "".join(piece.text for piece in pieces if isinstance(piece, Content))
        assert told == (text if content is None else content)
        assert calls_in(pieces) == calls


def test_strings_stream() -> None:
    """A long text does not wait for its end."""
    parser = QWEN.new_parser({"f": {"properties": {"a": {"type": "string"}}}}, lambda: "c", None)
    parser.feed("<tool_call>\n<function=f>\n<parameter=a>\n")
    assert parser.feed('one "two"\n</par') == [CallArguments(0, 'one \\"two\\"')]
    assert parser.feed("ty") == [CallArguments(0, "\\n</party")]


@all_dialects
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": True},
        {"type": "object", "properties": {}, "additionalProperties": {"type": "integer"}},
        {"anyOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["b"]}]},
        {"type": "object", "properties": {}, "required": ["b"], "additionalProperties": True},
        {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "additionalProperties": True}}},
    ],
)
def test_objects_that_are_open(compiler: GrammarCompiler, dialect: Dialect, schema: Any) -> None:
    function = {"name": "f", "parameters": schema}
    asked = plan(dialect, tools=[{"type": "function", "function": function}])
    text = call_of(dialect, ("f", {"b": 7, "c": 8}))
    assert takes(compiler, asked, text)
    assert [json.loads(given) for _, given in calls_in(read(asked.new_parser(), [text]))] == [
        {"b": 7, "c": 8}
    ]


@all_dialects
@pytest.mark.parametrize(
    "part", [{"type": "string", "pattern": "^a"}, {"type": "string", "format": "date"}]
)
def test_what_no_rule_enforces(compiler: GrammarCompiler, dialect: Dialect, part: Any) -> None:
    """A strict function is refused, by the name of the keyword; another one takes any text."""
    schema = {"type": "object", "properties": {"a": part}, "required": ["a"]}
    function = {"name": "f", "parameters": schema}
    asked = plan(dialect, tools=[{"type": "function", "function": function}])
    assert takes(compiler, asked, call_of(dialect, ("f", {"a": "b"})))
    function |= {"strict": True}
    asked = plan(dialect, tools=[{"type": "function", "function": function}])
    assert asked.structured_output is not None
    with pytest.raises(InvalidRequest, match=next(reversed(part))) as caught:
        compiler.compile(asked.structured_output).result()
    assert caught.value.param == "tools[0].function.parameters"


@all_dialects
def test_whatever_may_come_is_read_and_fits(compiler: GrammarCompiler, dialect: Dialect) -> None:
    """Random ways through the grammar of a required call."""
    asked = plan(dialect, tool_choice="required")
    assert dialect.form is not None
    assert dialect.form.arguments is not None
    assert asked.structured_output is not None
    tags = dialect.form.arguments
    for seed in range(12):
        text = grammars.walk(
            compiler,
            asked.structured_output,
            random.Random(seed),
            now_and_then=tags.margin + tags.value_end,
        )
        pieces = read(asked.new_parser(), [text])
        assert calls_in(pieces), text
        for name, told in calls_in(pieces):
            Draft202012Validator(SCHEMAS[name]).validate(json.loads(told))


def test_an_engine_without_tags_is_asked_for_json() -> None:
    asked = plan(QWEN, has_tags=False, tool_choice="required")
    assert asked.structured_output is not None
    assert asked.structured_output.json is not None
    assert calls_in(read(asked.new_parser(), ['[{"name": "stop-all", "arguments": {}}]'])) == [
        ("stop-all", "{}")
    ]


def test_tags_that_stand_for_no_text(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block's tag that is a token without text opens calls as a token."""
    [mark_id] = TOKENIZER.encode("<|im_start|>", add_special=False, parse_special=True)
    monkeypatch.setattr(
        "gateway.chat.tools.tool_constraint.hidden_tokens",
        lambda marks, tokenizer: {"<tool_call>": mark_id},
    )
    text = call_of(QWEN, ("get_weather", {"city": "Oslo", "days": 3}))
    for choice in ("auto", "required"):
        asked = plan(QWEN, tool_choice=choice)
        assert takes(compiler, asked, f"<|im_start|>\n{text}")
        assert not takes(compiler, asked, f"<|im_start|>\n{text.replace('3', 'x')}")
    assert takes(compiler, plan(QWEN), f"I ask.\n<|im_start|>\n{text}")


@all_dialects
def test_a_long_text_is_an_argument(compiler: GrammarCompiler, dialect: Dialect) -> None:
    """Such as a whole file; its tags may look much like those of the call."""
    code = "def f():\n    return '</param' + '</arg' + '<function=' + \"</a>\"\n\n" * 100
    text = call_of(dialect, ("get_weather", {"city": code, "days": 3}))
    asked = plan(dialect)
    assert takes(compiler, asked, text)
    [(_, given)] = calls_in(read(asked.new_parser(), text))
    assert json.loads(given) == {"city": code, "days": 3}
