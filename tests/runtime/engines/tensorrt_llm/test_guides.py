"""Structured outputs as the package gets them."""

from typing import Any

import pytest

from runtime.engines.tensorrt_llm.guides import make_guide
from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuredOutput


def given(**fields: Any) -> dict[str, Any]:
    """What the package gets for a structured output."""
    guide = make_guide(StructuredOutput(source="response_format", **fields))
    names = ("json", "json_object", "regex", "grammar", "structural_tag")
    return {name: value for name in names if (value := getattr(guide, name))}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"json": '{"type": "object"}'}, {"json": {"type": "object"}}),
        ({"json": "true"}, {"json_object": True}),
        ({"json": "{}"}, {"json_object": True}),
        ({"json": " { } "}, {"json_object": True}),
        ({"json_object": True}, {"json_object": True}),
        ({"regex": "a+"}, {"regex": "a+"}),
        ({"grammar": 'root ::= "a"'}, {"grammar": 'root ::= "a"'}),
        ({"choice": ("a.b", "")}, {"regex": r"(a\.b)|()"}),
    ],
)
def test_no_structure_is_lost(release: str, fields: dict[str, Any], expected: Any) -> None:
    """The package takes an empty schema for none, and no boolean for a schema."""
    assert given(**fields) == expected


@pytest.mark.parametrize(
    "fields", [{"json": "false"}, {"json": "{"}, {"regex": ""}, {"grammar": ""}]
)
def test_what_permits_no_answer_is_the_clients_mistake(
    release: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as error:
        given(**fields)
    assert error.value.param == "response_format"
