"""Calls of tools in running text: what an engine lets through once a call has begun."""

import json
from typing import Any

import pytest
from llguidance import LLParserLimits

from runtime.engines.base import SequenceOutput
from runtime.engines.features import check_features, features_of, without_optional
from runtime.errors import InvalidRequest
from runtime.messages.request import RequestOutput
from runtime.messages.structured_output import (
    ArgumentTags,
    StructuralTag,
    StructuredOutput,
    TagStructure,
)
from runtime.structured.grammars import GrammarCompiler
from runtime.structured.structural_tag import is_legacy, legacy_structural_tag
from runtime.worker.output import OutputProcessor
from tests.kit.engines import a_request
from tests.kit.grammars import TOKENIZER
from tests.kit.grammars import takes_token_by_token as takes

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALL = '<tool_call>\n{"name": "f", "arguments": {"city": "Oslo"}}\n</tool_call>'
OTHER = CALL.replace('"f"', '"g"')


def tag(schema: Any = CITY, *, strict: bool = False, **fields: Any) -> StructuralTag:
    structures = tuple(
        TagStructure(
            f'{{"name": "{name}", "arguments": ',
            json.dumps(schema),
            "}",
            strict,
            f"tools[{index}].function.parameters",
        )
        for index, name in enumerate(("f", "g"))
    )
    texts = {
        "trigger": "<tool_call>",
        "opening": "<tool_call>\n",
        "separator": "\n</tool_call>\n<tool_call>\n",
        "close": "\n</tool_call>",
    }
    return StructuralTag(**{**texts, "structures": structures, **fields})


def wanted(schema: Any = CITY, **fields: Any) -> StructuredOutput:
    return StructuredOutput(structural_tag=tag(schema, **fields), source="tools")


@pytest.mark.parametrize(
    ("fields", "taken", "refused"),
    [
        (
            {},
            ["", "Hi", f"Hi {CALL}", CALL, f"{CALL}\n{OTHER}", "a <tool_cal b"],
            [f"{CALL} bye", CALL.replace('"f"', '"h"'), CALL.replace("city", "town"), CALL[:-1]],
        ),
        ({"must_call": True}, [CALL, f"{CALL}\n{OTHER}"], ["", "Hi", f"Hi {CALL}"]),
        ({"stop_after_first": True}, ["Hi", f"Hi {CALL}"], [f"{CALL}\n{OTHER}"]),
        (
            {"at_start": True},
            ["Hi", CALL, "Hi <tool_call> is a tag"],
            ["<tool_call> is a tag", CALL.replace("city", "town")],
        ),
        ({"content": '{"enum": [1]}'}, ["1", CALL], ["Hi", "2", f"1{CALL}"]),
    ],
)
def test_what_may_come(
    compiler: GrammarCompiler, fields: dict[str, Any], taken: list[str], refused: list[str]
) -> None:
    asked = wanted(**fields)
    assert [text for text in taken if not takes(compiler, asked, text)] == []
    assert [text for text in refused if takes(compiler, asked, text)] == []


@pytest.mark.parametrize("must_call", [False, True])
def test_marks_that_stand_for_no_text(compiler: GrammarCompiler, must_call: bool) -> None:
    """A hidden token opens a call as a token, and never as the text of its name."""
    mark = "<|im_start|>"
    asked = wanted(
        trigger=mark,
        opening=f"{mark} [",
        separator=", ",
        close=f"]{mark}",
        special_tokens=((mark, TOKENIZER.im_start_token_id),),  # type: ignore[attr-defined]
        must_call=must_call,
    )
    call = '{"name": "f", "arguments": {"city": "Oslo"}}'
    assert takes(compiler, asked, f"{mark} [{call}]{mark}")
    assert takes(compiler, asked, f"{mark} [{call}, {call}]{mark}")
    assert takes(compiler, asked, f"Hi {mark} [{call}]{mark}") != must_call
    assert not takes(compiler, asked, f"{mark} [{call}]")
    assert not takes(compiler, asked, f"{mark} [{call.replace('city', 'town')}]{mark}")


def test_bare_calls_beside_marks_that_stand_for_no_text(compiler: GrammarCompiler) -> None:
    """What has another name is text, behind which a call may come."""
    mark = "<|im_start|>"
    structure = TagStructure('{"name": "f", "arguments": ', json.dumps(CITY), "}", True, "t", "f")
    asked = wanted(
        trigger=mark,
        opening=mark,
        separator="",
        close=mark,
        special_tokens=((mark, TOKENIZER.im_start_token_id),),  # type: ignore[attr-defined]
        structures=(structure,),
        bare_calls=True,
    )
    call = '{"name": "f", "arguments": {"city": "Oslo"}}'
    for text in (call, call.replace(" ", ""), f"{call}{mark}", f"{mark}{call}{mark}"):
        assert takes(compiler, asked, text)
        assert not takes(compiler, asked, text.replace("city", "town"))
    for other in ("Hi", '{"name": "g"}', '{"name": "'):
        assert takes(compiler, asked, other)
        assert takes(compiler, asked, f"{other}{mark}{call}{mark}")
        assert not takes(compiler, asked, f"{other}{mark}{call.replace('city', 'town')}{mark}")


@pytest.mark.parametrize(
    ("begin", "end"), [("<|im_start|>", "<|bos|>"), ("<|im_start|>", "[e]"), ("[b]", "[e]")]
)
def test_thoughts_may_come_first(compiler: GrammarCompiler, begin: str, end: str) -> None:
    """On channels: thoughts, then what has to come, each behind its head. Some marks are tokens
    without a text, and some are texts."""
    special = TOKENIZER.encode("<|im_start|><|bos|>", add_special=False, parse_special=True)
    named = zip(("<|im_start|>", "<|bos|>"), special, strict=True)
    channels = {
        "trigger": f"{begin}to=",
        "opening": f"{begin}to=",
        "separator": f"{end}{begin}to=",
        "close": "",
        "answer": f"{begin}final:",
        "thought_start": f"{begin}why:",
        "thought_end": f"{end}{begin}",
        "special_tokens": tuple((mark, number) for mark, number in named if mark in (begin, end)),
    }
    call = f'{begin}to={{"name": "f", "arguments": {{"city": "Oslo"}}}}'
    answer = f"{begin}final:1"
    thought = f"{begin}why:It is\n[1].{end}{begin}"
    must = wanted(**channels, must_call=True)
    for text in (call, f"{thought}{call}", f"{thought}{thought}{call}"):
        assert takes(compiler, must, text)
    for text in (thought, f"{thought}Hi", f"{call}{thought}", f"{thought}{answer}"):
        assert not takes(compiler, must, text)
    either = wanted(**channels, content='{"enum": [1]}')
    for text in (f"{thought}{answer}", answer, f"{thought}{call}"):
        assert takes(compiler, either, text)
    for text in ("1", f"{thought}1", f"{thought}{begin}final:2"):
        assert not takes(compiler, either, text)


def test_what_a_schema_asks_for_and_cannot_have(compiler: GrammarCompiler) -> None:
    """A strict schema is enforced to the letter or refused, with its place; another one as far as
    that is possible."""
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    assert takes(compiler, wanted(schema), "Hi")
    with pytest.raises(InvalidRequest, match=r"at `properties\.a\.uniqueItems`") as caught:
        compiler.compile(wanted(schema, strict=True)).result()
    assert caught.value.param == "tools[0].function.parameters"
    assert caught.value.code == "invalid_function_parameters"
    with pytest.raises(InvalidRequest, match="strin"):
        compiler.compile(wanted({"type": "strin"})).result()


def test_too_much_for_one_grammar_is_held_to_less(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tools that do not fit into one grammar keep their names, and strict ones are refused. The
    limit is a tenth of the real one, and so is what it holds."""
    monkeypatch.setattr(
        "runtime.structured.compiler.LIMITS", LLParserLimits(max_grammar_size=20_000)
    )
    properties = {f"p{number}": {"type": "integer"} for number in range(100)}
    schema = {"type": "object", "properties": properties, "required": ["p7"]}
    structures = tuple(
        TagStructure(f"{number}:", json.dumps(schema), ";", False, "tools") for number in range(60)
    )
    asked = wanted(trigger="!", opening="!", separator="", close="", structures=structures)
    assert takes(compiler, asked, "!8:{};")
    assert not takes(compiler, asked, "!8:[];")
    assert not takes(compiler, asked, "!60:{};")
    strict = tuple(TagStructure(s.begin, s.schema, s.end, True, s.source) for s in structures)
    asked = wanted(trigger="!", opening="!", separator="", close="", structures=strict)
    with pytest.raises(InvalidRequest):
        compiler.compile(asked).result()


def test_the_form_that_xgrammar_reads() -> None:
    asked = tag()
    document = json.loads(legacy_structural_tag(asked))
    assert document["type"] == "structural_tag"
    assert document["triggers"] == ["<tool_call>"]
    first = document["structures"][0]
    assert first["begin"] == '<tool_call>\n{"name": "f", "arguments": '
    assert (first["schema"], first["end"]) == (CITY, "}\n</tool_call>")
    assert is_legacy(asked)
    beyond: list[dict[str, Any]] = [
        {"at_start": True},
        {"must_call": True},
        {"content": "{}"},
        {"special_tokens": (("<tool_call>", 1),)},
        {"arguments": ArgumentTags("<key=", ">", "</key>")},
    ]
    assert not any(is_legacy(tag(**fields)) for fields in beyond)


@pytest.mark.parametrize(
    ("fields", "is_optional"),
    [
        ({}, True),
        ({"must_call": True}, False),
        ({"content": "{}"}, False),
        ({"strict": True}, False),
    ],
)
def test_what_an_engine_may_leave_out(fields: dict[str, Any], is_optional: bool) -> None:
    """Calls that nobody has asked for need no engine that can enforce them."""
    request = a_request(structured_output=wanted(**fields))
    assert (without_optional(request).sampling.structured_output is None) == is_optional
    assert features_of(request) == ([] if is_optional else ["structured_output"])
    if not is_optional:
        with pytest.raises(InvalidRequest, match="`tools`"):
            check_features(request, frozenset(), "none")


def test_hidden_tokens_that_a_parser_looks_for_are_shown() -> None:
    """By their names, in one request and no other."""
    [mark] = TOKENIZER.encode("<|im_start|>", add_special=False, parse_special=True)
    processor = OutputProcessor(TOKENIZER)

    def text_of(request_id: str, *shown: int) -> RequestOutput:
        processor.add(a_request(request_id, shown_token_ids=shown))
        token_ids = [*b"a", mark, *"é".encode()]
        [output] = processor.process([SequenceOutput(request_id, token_ids, "stop")]).outputs
        return output

    assert text_of("r1", mark).text == "a<|im_start|>é"
    assert text_of("r2").text == "aé"
