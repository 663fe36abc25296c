"""Calls without their marks, under `auto`: what is read as one fits its schema, or cannot come."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from gateway.api.openai.protocol.requests import decode_chat_completion
from gateway.api.openai.protocol.tools import MAX_TOOLS
from gateway.api.openai.translate.tools import find_tool_use
from gateway.chat.parsing.pieces import Content
from gateway.chat.tools.dialect import Dialect
from gateway.chat.tools.dialects.generic import GENERIC
from gateway.chat.tools.dialects.hermes import HERMES
from gateway.chat.tools.dialects.llama3 import LLAMA3
from gateway.chat.tools.find_dialect import DIALECTS
from gateway.chat.tools.tool_constraint import ToolConstraint, make_tool_constraint
from runtime.messages.structured_output import StructuredOutput
from runtime.structured.grammars import GrammarCompiler
from tests.kit import grammars
from tests.kit.chat.cuts import calls_in, read
from tests.kit.grammars import TOKENIZER

SCHEMAS: dict[str, dict[str, Any]] = {
    "toss": {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
        "additionalProperties": False,
    },
    "stop-all": {"type": "object", "properties": {}, "additionalProperties": False},
}
GOOD = '{"sure": true}'
BAD = '{"sure": true, "additionalProperties": false}'
LLAMA_CALL = '{"name": "toss", "parameters": {"sure": true}}'
BARE_DIALECTS = [each for each in DIALECTS.values() if each.form and each.new_form_parser]
all_dialects = pytest.mark.parametrize("dialect", BARE_DIALECTS, ids=lambda each: each.name)
both_dialects = pytest.mark.parametrize("dialect", [HERMES, GENERIC], ids=lambda each: each.name)


def plan(
    dialect: Dialect,
    *,
    strict: bool = True,
    wanted: StructuredOutput | None = None,
    has_tags: bool = True,
    **body: Any,
) -> ToolConstraint:
    tools = [
        {"type": "function", "function": {"name": name, "parameters": schema, "strict": strict}}
        for name, schema in SCHEMAS.items()
    ]
    messages = [{"role": "user", "content": "hi"}]
    raw = json.dumps({"model": "m", "messages": messages, "tools": tools} | body)
    use = find_tool_use(decode_chat_completion(raw.encode()))
    assert use is not None
    return make_tool_constraint(use, dialect, TOKENIZER, wanted, has_tags=has_tags)


def takes(compiler: GrammarCompiler, asked: ToolConstraint, text: str) -> bool:
    """Whether the text may come and then end."""
    assert asked.structured_output is not None
    return grammars.takes(compiler, asked.structured_output, text)


def takes_at_each_token(compiler: GrammarCompiler, asked: ToolConstraint, text: str) -> bool:
    assert asked.structured_output is not None
    return grammars.takes_token_by_token(compiler, asked.structured_output, text)


def calls(asked: ToolConstraint, text: str) -> list[tuple[str, str]]:
    """Names and arguments that are read in a text."""
    return calls_in(read(asked.new_parser(), [text]))


BARE = [
    f'{{"name": "toss", "arguments": {GOOD}}}',
    f'{{"name":"toss","parameters":{GOOD}}}',
    f'\n {{\n  "name": "toss",\n  "arguments": {GOOD}\n}}',
    f'```json\n{{"name": "toss", "arguments": {GOOD}}}\n```',
]


@both_dialects
@pytest.mark.parametrize("strict", [False, True])
def test_bare_calls_are_held_to_their_schema(
    compiler: GrammarCompiler, dialect: Dialect, strict: bool
) -> None:
    asked = plan(dialect, strict=strict)
    for text in BARE:
        assert takes(compiler, asked, text)
        assert calls(asked, text) == [("toss", GOOD)]
        assert not takes(compiler, asked, text.replace(GOOD, BAD))
        assert not takes(compiler, asked, text.replace(GOOD, '"{}"'))
    for text in ('{"name": "toss"}', '{"name": "toss", "id": 1, "arguments": {}}'):
        assert not takes(compiler, asked, text)


ONE = f'{{"name": "toss", "arguments": {GOOD}}}'
OTHER = '{"name": "stop-all", "arguments": {}}'
SPELLINGS = [
    ONE,
    f'{{"type": "function", "name": "toss", "arguments": {GOOD}}}',
    f'{{"type":"function","function":{{"name":"toss","parameters":{GOOD}}}}}',
    f'{{"id": "call_1", "type": "function", "function": {ONE}}}',
    f'{{"type": "function", "id": "call_1", "name": "toss", "parameters": {GOOD}}}',
    f'{{"type": "function", "function": "toss", "parameters": {GOOD}}}',
    f'{{"function_call": {ONE}}}',
]
AROUND = [
    ("", "", ""),
    ("[", ", ", "]"),
    ("```json\n", "\n", "\n```"),
    ("```\n[\n", ",\n", "\n]\n```"),
    ("\n", ";", "\n"),
    ("", "", ""),
]


@all_dialects
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_alone_and_among_others(
    compiler: GrammarCompiler, dialect: Dialect, spelling: str
) -> None:
    """A call as OpenAI's API has it, a list, one object after the other."""
    asked = plan(dialect)
    for before, between, after in AROUND:
        for objects in ([spelling], [spelling, OTHER], [OTHER, spelling]):
            text = before + between.join(objects) + after
            names = ["stop-all" if each is OTHER else "toss" for each in objects]
            for pieces in (read(asked.new_parser(), parts) for parts in ([text], text)):
                assert [name for name, _ in calls_in(pieces)] == names
                assert not any(isinstance(piece, Content) for piece in pieces)
            assert dialect.form is not None
            if after != "\n" and not text.startswith(dialect.form.trigger):
                assert takes(compiler, asked, text)
            assert not takes(compiler, asked, text.replace(GOOD, BAD))


@all_dialects
@pytest.mark.parametrize(
    "start", ['{"name":"toss"', '\n[{"type": "function", "function": {"name": "toss"']
)
def test_whatever_may_follow_a_bare_call_is_read(
    compiler: GrammarCompiler, dialect: Dialect, start: str
) -> None:
    """Random ways through the grammar, to their ends: calls that fit, and no content."""
    asked = plan(dialect)
    assert asked.structured_output is not None
    for seed in range(8):
        dice = random.Random(seed)
        text = start + grammars.walk(compiler, asked.structured_output, dice, start=start)
        pieces = read(asked.new_parser(), [text])
        assert [piece for piece in pieces if isinstance(piece, Content)] == [], text
        assert calls_in(pieces), text
        for name, arguments in calls_in(pieces):
            Draft202012Validator(SCHEMAS[name]).validate(json.loads(arguments))


@both_dialects
def test_one_call_or_several(compiler: GrammarCompiler, dialect: Dialect) -> None:
    first, second = BARE[0], '{"name": "stop-all", "arguments": {}}'
    text = f"{first}\n{second}" if dialect is HERMES else f"[{first}, {second}]"
    assert takes(compiler, plan(dialect), text)
    assert [name for name, _ in calls(plan(dialect), text)] == ["toss", "stop-all"]
    single = plan(dialect, parallel_tool_calls=False)
    assert takes(compiler, single, first)
    assert not takes(compiler, single, text)


@both_dialects
@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hi",
        '{"name": "Oslo", "arguments": {"a": 1}}',
        '{"name": "tossed"}',
        '{"city": "toss"}',
        f'Well, {{"name": "toss", "arguments": {BAD}}}',
        '```python\nprint({"name": 1})\n```',
    ],
)
def test_all_else_is_free_and_content(
    compiler: GrammarCompiler, dialect: Dialect, text: str
) -> None:
    asked = plan(dialect)
    assert takes(compiler, asked, text)
    assert calls(asked, text) == []


@pytest.mark.parametrize("dialect", [HERMES, GENERIC, LLAMA3], ids=lambda each: each.name)
def test_as_many_tools_as_there_may_be(compiler: GrammarCompiler, dialect: Dialect) -> None:
    """One grammar, whose work stays within its limits at every token."""
    names = [f"{number:03}_{'long_name_' * 6}" for number in range(MAX_TOOLS)]
    properties = {f"p{number}": {"type": "string"} for number in range(6)}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    functions = [{"name": name, "parameters": schema, "strict": True} for name in names]
    asked = plan(dialect, tools=[{"type": "function", "function": each} for each in functions])
    arguments = json.dumps(dict.fromkeys(properties, "狐"), ensure_ascii=False)
    for name in (names[0], names[-1]):
        text = f'\n{{\n "name":"{name}",\n "parameters": {arguments}}}'
        assert takes_at_each_token(compiler, asked, text)
        assert calls(asked, text) == [(name, arguments)]
        assert not takes(compiler, asked, text.replace("p5", "p6"))
    assert takes_at_each_token(
        compiler, asked, '{ "nam": 1 }\n```json\n{"type": "function"} ' + "a b\n" * 99
    )


BLANK = st.sampled_from(["", " ", "\n", "\u00a0", "\x1c"])
NAME = st.sampled_from(['"toss"', '"stop-all"', '"\\u0074oss"', '"\\u0074o\\u0073s"', '"x"'])
ARGUMENTS = st.sampled_from([GOOD, BAD, "{}", '"{}"', "null", '{"sure": 1}'])


PARTS = st.lists(
    st.one_of(
        NAME.map(lambda name: ('"name"', name)),
        ARGUMENTS.map(lambda value: ('"arguments"', value)),
        ARGUMENTS.map(lambda value: ('"parameters"', value)),
        st.just(('"id"', '"1"')),
        st.just(('"type"', '"function"')),
    ),
    min_size=1,
    max_size=3,
)


def written(parts: list[tuple[str, str]], blank: str) -> str:
    inner = f"{blank},{blank}".join(f"{key}{blank}:{blank}{value}" for key, value in parts)
    return f"{blank}{{{blank}{inner}{blank}}}"


OBJECTS = st.lists(st.builds(written, PARTS, BLANK), min_size=1, max_size=2)
"""What looks like calls, with their parts in any order, doubled, or missing."""
ANSWERS = st.builds(
    lambda begin, separator, objects, end: begin + separator.join(objects) + end,
    st.sampled_from(["", "```json\n", "```", "[", "```json [", "<tool_call>\n", "a "]),
    st.sampled_from(["", "\n", ", ", "; ", "\n</tool_call>\n<tool_call>\n"]),
    OBJECTS,
    st.sampled_from(["", "\n```", "]", "\n</tool_call>"]),
)


@pytest.mark.parametrize(
    "text",
    [
        LLAMA_CALL,
        LLAMA_CALL.replace(" ", ""),
        LLAMA_CALL.replace("{", '{"type": "function", ', 1),
        LLAMA_CALL.replace("{", '{"type":"function","id":"7","', 1).replace('""', '"'),
        f"{LLAMA_CALL.replace(' ', '')};{LLAMA_CALL}",
    ],
)
def test_calls_of_llama_in_any_spacing(compiler: GrammarCompiler, text: str) -> None:
    asked = plan(LLAMA3)
    assert takes(compiler, asked, text)
    assert {name for name, _ in calls(asked, text)} == {"toss"}
    assert not takes(compiler, asked, text.replace("true", '"yes"'))


@pytest.mark.parametrize("dialect", [HERMES, GENERIC, LLAMA3], ids=lambda each: each.name)
@settings(max_examples=400, deadline=None)
@given(text=ANSWERS)
def test_whatever_is_read_as_a_call_fits(
    compiler: GrammarCompiler, dialect: Dialect, text: str
) -> None:
    asked = plan(dialect)
    found = calls(asked, text)
    if found and takes(compiler, asked, text):
        for name, arguments in found:
            errors = Draft202012Validator(SCHEMAS[name]).iter_errors(json.loads(arguments))
            assert list(errors) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"has_tags": False},
        {"wanted": StructuredOutput(json_object=True), "strict": False},
    ],
)
def test_where_nothing_holds_them_they_are_content(fields: dict[str, Any]) -> None:
    """Engines that enforce what stands between the marks alone; and beside a format, which an
    answer without marks has to fit."""
    asked = plan(HERMES, **fields)
    for text in BARE:
        assert read(asked.new_parser(), [text]) == [Content(text)]
    assert calls(asked, f"<tool_call>\n{BARE[0]}\n</tool_call>") == [("toss", GOOD)]
    lenient = plan(HERMES, strict=False, has_tags=False)
    assert calls(lenient, BARE[0]) == [("toss", GOOD)]
