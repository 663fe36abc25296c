"""Structured output and calls of the TensorRT-LLM engine."""

import re
from typing import Any

import pytest

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuralTag, StructuredOutput, TagStructure
from tests.kit.engines import engine_answers
from tests.runtime.engines.tensorrt_llm.harness import Make, request, steps


def test_structured_output_is_enforced_and_a_bad_one_is_the_clients_mistake(make: Make) -> None:
    engine = make()
    choice = StructuredOutput(choice=("yes.", "n(o"))

    whole = engine_answers(
        engine,
        request("choice", max_tokens=30, structured_output=choice),
        request("json", max_tokens=200, structured_output=StructuredOutput(json_object=True)),
    )
    assert bytes(whole["choice"].token_ids[:-1]).decode() in ("yes.", "n(o")
    assert bytes(whole["json"].token_ids[:-1]).decode().startswith("{")

    engine.add(request("bad", structured_output=StructuredOutput(regex="(")))
    list(steps(engine))
    [failed] = engine.take_failed()
    assert isinstance(failed.error, InvalidRequest)
    assert failed.error.param == "response_format"


def calls(*, strict: bool = False, **fields: Any) -> StructuredOutput:
    schema = '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'
    structure = TagStructure('{"name": "f", "arguments": ', schema, "}", strict, "tools[0]")
    texts = {"trigger": "<call>", "opening": "<call>", "separator": "</call><call>"}
    tag = StructuralTag(**{**texts, "close": "</call>", "structures": (structure,), **fields})
    return StructuredOutput(structural_tag=tag, source="tools")


def test_calls_of_tools_are_enforced_where_the_package_can(make: Make) -> None:
    """Otherwise they are left to the model, if they may be."""
    engine = make()
    whole = engine_answers(engine, request(max_tokens=90, structured_output=calls()))["r"]
    text = bytes(whole.token_ids[:-1]).decode()
    assert re.fullmatch(r'<call>{"name": "f", "arguments": {"a": -?\d+}}</call>', text)
    free = engine_answers(engine, request())["r"].token_ids
    for fields in ({"at_start": True}, {"special_tokens": (("<call>", 1),)}):
        asked = request(structured_output=calls(**fields))
        assert engine_answers(engine, asked)["r"].token_ids == free
    for fields in ({"must_call": True}, {"content": "{}"}):
        with pytest.raises(InvalidRequest, match="cannot enforce `tools`") as caught:
            engine.add(request(structured_output=calls(**fields)))
        assert caught.value.param == "tools"


@pytest.mark.parametrize("backend", ["llguidance", "off"])
def test_backends_that_know_no_tags(make: Make, backend: str) -> None:
    engine = make({"guided_decoding_backend": backend})
    free = engine_answers(engine, request())["r"].token_ids
    assert engine_answers(engine, request(structured_output=calls()))["r"].token_ids == free
    with pytest.raises(InvalidRequest, match="cannot enforce `tools`"):
        engine.add(request(structured_output=calls(strict=True)))


def test_structured_output_can_be_off(make: Make) -> None:
    engine = make({"guided_decoding_backend": "off"})
    with pytest.raises(InvalidRequest, match="response_format"):
        engine.add(request(structured_output=StructuredOutput(json_object=True)))


def test_a_structured_answer_that_goes_on_is_computed_again_and_only_the_rest_is_new(
    make: Make,
) -> None:
    engine = make()
    wanted = StructuredOutput(choice=("abcdefgh",))
    first = engine_answers(engine, request(max_tokens=30, structured_output=wanted))["r"].token_ids

    rest = engine_answers(
        engine,
        request(max_tokens=30, structured_output=wanted, output_token_ids=first[:4]),
    )["r"]
    assert rest.token_ids == first[4:]

    engine.add(request(structured_output=wanted, output_token_ids=[1, 2]))
    assert [output for step in steps(engine) for output in step] == []
    [failed] = engine.take_failed()
    assert "differently the second time" in str(failed.error)
