"""Every dialect of tool calls: whatever is said and however it is cut, the stream says what the
whole text says; calls are found, and what is no call comes out unchanged."""

import functools
import itertools
import json
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chat.parsing.pieces import CallStart, Content, Parser, Reasoning
from gateway.chat.tools.dialect import Dialect
from gateway.chat.tools.find_dialect import DIALECTS, find_dialect
from tests.kit.chat.cuts import calls_in, cut, places, read
from tests.kit.chat.tools import written

NAMES = ("get_weather", "f", "a-b_1")
BY_NAME = list(DIALECTS)
JSON_DIALECTS = [name for name, each in DIALECTS.items() if each.form and not each.form.arguments]

Said = tuple[str, str, list[tuple[str, str]]]
"""Content, reasoning, and the calls with name and arguments."""


def parser_of(dialect: Dialect, max_calls: int | None = None) -> Parser:
    numbers = itertools.count()
    return dialect.new_parser(
        {name: {} for name in NAMES}, lambda: f"call_{next(numbers)}", max_calls
    )


def said_by(dialect: Dialect, texts: Iterable[str], max_calls: int | None = None) -> Said:
    """What a client makes of the text."""
    pieces = read(parser_of(dialect, max_calls), texts)
    ids = [piece.id for piece in pieces if isinstance(piece, CallStart)]
    assert ids == [f"call_{number}" for number in range(len(ids))]
    content, reasoning = (
        "".join(piece.text for piece in pieces if isinstance(piece, kind))
        for kind in (Content, Reasoning)
    )
    return content, reasoning, calls_in(pieces)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab"\\{}[]<|>é\n', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", min_size=1), inner),
    max_leaves=5,
)
arguments = st.dictionaries(st.sampled_from(["city", "unit", "n"]), values, max_size=3).map(
    lambda made: json.dumps(made, ensure_ascii=False)
)
calls_of = st.lists(st.tuples(st.sampled_from(NAMES), arguments), min_size=1, max_size=3)
words = st.text("abc .,!", max_size=12)


@pytest.mark.parametrize("name", JSON_DIALECTS)
@settings(max_examples=30)
@given(before=words, calls=calls_of, places=places)
def test_calls_are_found_however_they_are_cut(name, before, calls, places):
    """Text, then calls as a grammar would have them written."""
    dialect = DIALECTS[name]
    assert dialect.form is not None
    before = "" if dialect.form.at_start else before
    text = before + written(dialect, calls)
    content, reasoning, found = said_by(dialect, cut(text, places))
    assert (content.rstrip(), reasoning) == (before.rstrip(), "")
    assert found == calls


@pytest.mark.parametrize("name", JSON_DIALECTS)
@settings(max_examples=30)
@given(calls=calls_of, data=st.data())
def test_a_call_that_was_cut_off_loses_nothing(name, calls, data):
    """As for an answer that ends with its limit: the beginning of what the whole text says. What
    is not yet a call is content."""
    dialect = DIALECTS[name]
    text = written(dialect, calls)
    end = data.draw(st.integers(0, len(text)))
    _, _, found = said_by(dialect, [text[:end]])
    assert found[:-1] == calls[: max(len(found) - 1, 0)]
    if found:
        assert found[-1][0] == calls[len(found) - 1][0]
        assert calls[len(found) - 1][1].startswith(found[-1][1])


@functools.cache
def fragments(dialect: Dialect) -> st.SearchStrategy[str]:
    """Texts that look much like calls and mostly are none."""
    pieces = [
        *(*dialect.marks, *(mark[:-1] for mark in dialect.marks)),
        *("{", "}", "[", "]", ",", ";", ":", '"', " ", "\n", "x", "```", "json", "<", "<|"),
        *('{"name": "f", "arguments": {"a": 1}}', '{"name":"no","arguments":{}}', '{"name"'),
        *('{"arguments": {}, "name": "f"}', "f", "call:f{", 'call:f{a:"b"}', "functions.f", "to="),
        *("analysis", "commentary", "final", "assistant", "[ARGS]", "function"),
    ]
    return st.lists(st.sampled_from(pieces), max_size=12).map("".join)


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=60)
@given(data=st.data(), places=places)
def test_any_text_says_the_same_however_it_is_cut(name, data, places):
    """A text without a call is content to the last character."""
    dialect = DIALECTS[name]
    text = data.draw(fragments(dialect))
    whole = said_by(dialect, [text])
    assert said_by(dialect, list(text)) == whole
    assert said_by(dialect, cut(text, places)) == whole
    content, _, calls = whole
    if not calls and name != "harmony":
        assert content == text


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("hermes", '<tool_call>{"name": "f"}</tool_call>', ("", "", [("f", "{}")])),
        (
            "hermes",
            'Hm. <tool_call>\n{"arguments": {"a": 1}, "name": "f"}\n</tool_call>\n',
            ("Hm.", "", [("f", '{"a": 1}')]),
        ),
        (
            "hermes",
            '<tool_call>\n{"name": "f", "arguments": "{\\"a\\": 1}"}\n</tool_call>',
            ("", "", [("f", '{"a": 1}')]),
        ),
        (
            "hermes",
            '<tool_call>\n```json\n{"name": "f", "arguments": {}}\n```\n</tool_call> Done.',
            (" Done.", "", [("f", "{}")]),
        ),
        (
            "hermes",
            '{"name": "f", "arguments": {"a": 1}}\n{"name": "f", "arguments": {}}',
            ("", "", [("f", '{"a": 1}'), ("f", "{}")]),
        ),
        (
            "hermes",
            'It is {"name": "f", "arguments": {}}.',
            ('It is {"name": "f", "arguments": {}}.', "", []),
        ),
        (
            "hermes",
            '{"name": "f", "arguments": {"a": 1}}\n{"name": "f", "arg',
            ("", "", [("f", '{"a": 1}')]),
        ),
        (
            "hermes",
            '<tool_call>[{"name": "f", "arguments": {"a": 1}}, {"arguments": {}, "name": "f"}]'
            "</tool_call>",
            ("", "", [("f", '{"a": 1}'), ("f", "{}")]),
        ),
        (
            "hermes",
            '<tool_call>\n{"type": "function", "function": {"name": "f", "arguments": {"a": {}}}}\n'
            '{"function": {"name": "f", "parameters": {"b": 1}}}\n</tool_call>\n',
            ("", "", [("f", '{"a": {}}'), ("f", '{"b": 1}')]),
        ),
        (
            "phi",
            '<|tool_call|>[{"type": "function", "name": "f", "parameters": {"a": 2}}]'
            "<|/tool_call|>",
            ("", "", [("f", '{"a": 2}')]),
        ),
        (
            "deepseek_v31",
            '[{"name": "f", "arguments": {"a": 2}},{"name": "f", "arguments": {}}]',
            ("", "", [("f", '{"a": 2}'), ("f", "{}")]),
        ),
        ("hermes", "Use <tool_call> for that.", ("Use <tool_call> for that.", "", [])),
        (
            "hermes",
            '<tool_call>{"name": "no", "arguments": {}}</tool_call>',
            ('<tool_call>{"name": "no", "arguments": {}}</tool_call>', "", []),
        ),
        (
            "llama3",
            '<|python_tag|>{"name": "f", "parameters": {"a": [1]}}; '
            '{"name": "f", "parameters": {}}',
            ("", "", [("f", '{"a": [1]}'), ("f", "{}")]),
        ),
        (
            "llama3",
            '\n{"type": "function", "name": "f", "parameters": {}}',
            ("", "", [("f", "{}")]),
        ),
        ("llama3", '{"name": "Ann", "age": 3}', ('{"name": "Ann", "age": 3}', "", [])),
        ("llama3", '<|python_tag|>print("f")', ('<|python_tag|>print("f")', "", [])),
        (
            "mistral",
            '[TOOL_CALLS][{"name": "f", "arguments": {"a": "]"}, "id": "123456789"}]',
            ("", "", [("f", '{"a": "]"}')]),
        ),
        (
            "mistral_args",
            'Well.[TOOL_CALLS]f[CALL_ID]abc123def[ARGS]{"a": 1}[TOOL_CALLS]f[ARGS]{}',
            ("Well.", "", [("f", '{"a": 1}'), ("f", "{}")]),
        ),
        (
            "deepseek_v3",
            "Let me see.\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n"
            '```json\n{"a": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
            ("Let me see.", "", [("f", '{"a": 1}')]),
        ),
        (
            "harmony",
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary"
            "<|message|>I ask.<|end|><|start|>assistant to=functions.f<|channel|>commentary json"
            '<|message|>{"a": 1}',
            ("I ask.", "Hm.", [("f", '{"a": 1}')]),
        ),
        (
            "harmony",
            " to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}",
            ("", "", [("f", "{}")]),
        ),
        ("harmony", "No marks at all.", ("No marks at all.", "", [])),
        (
            "phi",
            '<|tool_call|>[{"name": "f", "arguments": {}}, {"name": "f", "arguments": {}}]'
            "<|/tool_call|>",
            ("", "", [("f", "{}"), ("f", "{}")]),
        ),
        ("json", '```json\n{"name": "f", "arguments": {}}\n```', ("", "", [("f", "{}")])),
        (
            "functiongemma",
            "<start_function_call>call:f{city:<escape>Oslo, {x}<escape>,n:3,"
            "l:[1,<escape>b<escape>]}<end_function_call>",
            ("", "", [("f", '{"city": "Oslo, {x}", "n": 3, "l": [1, "b"]}')]),
        ),
        (
            "gemma4",
            'I ask. <|tool_call>call:f{o:{a:<|"|>b<|"|>,c:true}}<tool_call|><|tool_call>call:f{}'
            "<tool_call|>",
            ("I ask.", "", [("f", '{"o": {"a": "b", "c": true}}'), ("f", "{}")]),
        ),
        (
            "gemma4",
            "<|tool_call>call:f{o:<tool_call|>",
            ("<|tool_call>call:f{o:<tool_call|>", "", []),
        ),
    ],
)
def test_what_models_write(name: str, text: str, said: Said) -> None:
    assert said_by(DIALECTS[name], [text]) == said
    assert said_by(DIALECTS[name], list(text)) == said


@pytest.mark.parametrize("name", JSON_DIALECTS)
def test_only_as_many_calls_as_wanted(name: str) -> None:
    dialect = DIALECTS[name]
    text = written(dialect, [("f", '{"a": 1}'), ("get_weather", "{}")])
    assert said_by(dialect, [text], max_calls=1) == ("", "", [("f", '{"a": 1}')])


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ('<tool_call>\n{"name": <n>, "arguments": <a>}', "hermes"),
        ("{{ '<|python_tag|>' }}", "llama3"),
        ("'[TOOL_CALLS] ['", "mistral"),
        ("'[TOOL_CALLS]' + name + '[ARGS]'", "mistral_args"),
        ("'<｜tool▁calls▁begin｜>' '```json'", "deepseek_v3"),
        ("'<｜tool▁calls▁begin｜>' '<｜tool▁sep｜>'", "deepseek_v31"),
        ("<|start|>assistant<|channel|>final<|message|>", "harmony"),
        ("<|tool|>{{ tools }}<|/tool|>", "phi"),
        ("<start_function_call>call:f<end_function_call>", "functiongemma"),
        ("<|tool_call>call:<tool_call|>", "gemma4"),
        ("<start_of_turn>model", "json"),
        ("<tool_call>\n<function=f>\n<parameter=a>", "qwen3_coder"),
        ("<seed:tool_call>\n<function=f>\n<parameter=a>", "seed_oss"),
        ("<tool_call>{name}\n<arg_key>{k}</arg_key>\n<arg_value>{v}</arg_value>", "glm45"),
        ('<minimax:tool_call>\n<invoke name="f">\n<parameter name="a">', "minimax_m2"),
        ('<function_calls>\n<invoke name="f">\n<parameter name="a">', "minimax_m2"),
    ],
)
def test_a_template_tells_the_dialect(template: str, name: str) -> None:
    assert find_dialect(template).name == name
