"""What is light compiles within milliseconds, and what is not light is told from its text."""

import contextlib
import json
import time
from typing import Any

import pytest
from msgspec import structs

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import (
    LeftOut,
    StructuralTag,
    StructuredOutput,
    TagStructure,
)
from runtime.structured.compiler import compile_grammar
from runtime.structured.vocabulary import grammar_tokenizer
from runtime.structured.weight import check_divisors, is_light, lightened, too_large
from tests.kit.grammars import TOKENIZER

NUMBER = {"type": "number"}


def schema(**keywords: Any) -> StructuredOutput:
    return StructuredOutput(json=json.dumps(keywords))


def tools(*schemas: dict[str, Any]) -> StructuredOutput:
    structures = tuple(
        TagStructure(
            f'{{"name": "f{n}", "arguments": ', json.dumps(each), "}", False, f"tools[{n}]"
        )
        for n, each in enumerate(schemas)
    )
    tag = StructuralTag(
        trigger="<call>", opening="<call>", separator="", close="</call>", structures=structures
    )
    return StructuredOutput(structural_tag=tag, source="tools")


def nested(depth: int, last: dict[str, Any]) -> dict[str, Any]:
    for _ in range(depth):
        last = {"type": "array", "items": last}
    return last


LIGHT = {
    "any object": StructuredOutput(json_object=True),
    "an object": schema(type="object", properties={"a": NUMBER}, required=["a"]),
    "many optional properties": schema(properties={f"p{n}": NUMBER for n in range(390)}),
    "many required properties": schema(
        properties={f"p{n}": NUMBER for n in range(390)}, required=[f"p{n}" for n in range(390)]
    ),
    "many words": schema(enum=[f"{n}" for n in range(2_000)]),
    "many objects": schema(
        anyOf=[{"properties": {"k": {"const": n}}, "required": ["k"]} for n in range(150)]
    ),
    "many alternatives, each for one of them": schema(
        oneOf=[{"properties": {"k": {"const": n}}, "required": ["k"]} for n in range(150)]
    ),
    "deep": StructuredOutput(json=json.dumps(nested(24, NUMBER))),
    "a tree": schema(
        **{"$ref": "#/$defs/n"},
        **{
            "$defs": {"n": {"properties": {"l": {"$ref": "#/$defs/n"}, "r": {"$ref": "#/$defs/n"}}}}
        },
    ),
    "a chain of references": schema(
        **{"$ref": "#/$defs/d0"},
        **{
            "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(350)} | {"d350": NUMBER}
        },
    ),
    "references that double": schema(
        **{"$ref": "#/$defs/d0"},
        **{
            "$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(100)}
            | {"d100": NUMBER}
        },
    ),
    "long texts": schema(type="string", minLength=10**6, maxLength=10**9),
    "long lists": schema(items=nested(3, NUMBER), minItems=10**6, maxItems=10**9),
    "steps of numbers": schema(type="integer", multipleOf=997, minimum=3, maximum=10**17),
    "fractions": schema(type="number", multipleOf=0.01),
    "a pattern": schema(type="string", pattern="^[a-z]{1,40}(-[0-9]{2}){3}$", maxLength=10**6),
    "patterns": schema(
        properties={
            f"p{n}": {"pattern": f"(.*{n}.{{30}}){{10}}", "maxLength": 99} for n in range(100)
        }
    ),
    "formats": schema(
        properties={
            f"{format}{n}": {"type": "string", "format": format}
            for n in range(30)
            for format in ("date-time", "email", "uuid", "ipv6", "uri", "hostname", "duration")
        }
    ),
    "states": StructuredOutput(regex="([ab]*a[ab]{30}){30}"),
    "choices": StructuredOutput(choice=tuple(f"{n}" for n in range(3_000))),
    "tools": tools(*[{"properties": {"a": NUMBER, "b": {"enum": ["x", "y"]}}}] * 60),
}

HEAVY = {
    "a grammar": StructuredOutput(grammar='start: "a"'),
    "steps of numbers": schema(type="integer", multipleOf=99_999_989),
    "repetitions": schema(type="string", pattern="^(a{1000}){1000}$"),
    "within a tool": tools(NUMBER, {"properties": {"a": {"pattern": "(a{1000}){1000}"}}}),
    "within a list": schema(properties={"a": {"items": {"multipleOf": 1009}}}),
    "within references": schema(**{"$defs": {"a": {"multipleOf": 1009}}, "$ref": "#/$defs/a"}),
    "open repetitions": StructuredOutput(regex="(a{1000,}){,1000}"),
    "a long pattern": StructuredOutput(regex="a?" * 200),
    "products": schema(allOf=[{"anyOf": [NUMBER, {"type": "string"}]}] * 22),
    "products of one": schema(anyOf=[NUMBER, {"type": "string"}], properties={}),
    "deeper": StructuredOutput(json=json.dumps(nested(25, NUMBER))),
    "too deep to read": StructuredOutput(json="[" * 8000 + "]" * 8000),
    "more properties": schema(properties={f"p{n}": NUMBER for n in range(401)}),
    "a long text": schema(title="a" * 20_000),
    "what nobody knows": schema(strange={}),
    "options": schema(**{"x-guidance": {"whitespace_pattern": "(a{999}){999}"}}),
}


@pytest.mark.parametrize("name", LIGHT)
def test_what_is_light_is_compiled_soon(name: str) -> None:
    assert is_light(LIGHT[name])
    tokenizer = grammar_tokenizer(TOKENIZER)
    began = time.process_time()
    with contextlib.suppress(InvalidRequest):  # a refusal is an answer too, if it comes as soon
        compile_grammar(LIGHT[name], tokenizer)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("name", HEAVY)
def test_what_may_take_long_is_told(name: str) -> None:
    assert not is_light(HEAVY[name])


@pytest.mark.parametrize(
    ("wanted", "param", "place"),
    [
        (schema(multipleOf=99_999_989), "response_format", "at `multipleOf`"),
        (schema(multipleOf=99_999_989.0), "response_format", "at `multipleOf`"),
        (schema(multipleOf=-99_999_989), "response_format", "at `multipleOf`"),
        (schema(properties={"a": {"multipleOf": 10**30 + 1}}), "response_format", "properties.a."),
        (schema(anyOf=[NUMBER, {"multipleOf": 10**400}]), "response_format", r"anyOf\[1\].mult"),
        (tools(NUMBER, {"multipleOf": 99_999_989}), r"tools\[1\]", "at `multipleOf`"),
    ],
)
def test_a_divisor_that_is_too_large_is_named(
    wanted: StructuredOutput, param: str, place: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"`{param}` cannot be enforced.*{place}") as caught:
        check_divisors(wanted)
    assert "200,000" in str(caught.value)


def test_what_weighs_most_is_named() -> None:
    small = {"type": "string", "pattern": "a{10}"}
    large = {"properties": {"q": {"pattern": "(a{99}){99}"}}}
    for wanted, param, place in (
        (schema(properties={"a": small, "b": large}), "response_format", "`properties.b."),
        (tools(small, large), "tools[1]", "`properties.q.pattern`"),
        (StructuredOutput(regex="a", source="guided_regex"), "guided_regex", "Make it smaller"),
    ):
        error = too_large(wanted, "it takes too long")
        assert error.param == param
        assert place in str(error)


def test_the_heaviest_keyword_is_left_out() -> None:
    hard, easy = {"pattern": "(a{99}){99}"}, {"pattern": "a{10}"}
    first = schema(properties={"a": {"anyOf": [NUMBER, hard]}, "b": easy})

    lighter = lightened(first, "it takes too long")

    assert lighter is not None
    assert lighter.wanted == schema(properties={"a": {"anyOf": [NUMBER, {}]}, "b": easy})
    assert lighter.left_out == (
        LeftOut("response_format", "properties.a.anyOf[1].pattern", "it takes too long"),
    )
    lighter = lightened(tools(easy, {"items": hard}), "it takes too long")
    assert lighter is not None
    assert lighter.wanted == tools(easy, {"items": {}})
    assert lighter.left_out[0].source == "tools[1]"


def test_what_has_to_be_enforced_or_forbids_something_is_not_left_out() -> None:
    hard = {"pattern": "(a{99}){99}"}
    for wanted in (
        structs.replace(schema(**hard), is_strict=True),
        schema(**{"not": hard, "if": hard, "contains": hard}),
        StructuredOutput(regex="(a{99}){99}"),
        schema(type="string"),
    ):
        assert lightened(wanted, "it takes too long") is None
