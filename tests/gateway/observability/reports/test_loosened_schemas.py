"""What a request's schemas lose is told in a header and in the log."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.observability.reports.loosened_schemas import MAX_HEADER, header_value, report_left_out
from gateway.observability.request_record import RequestRecord
from runtime.messages.structured_output import LeftOut
from tests.kit.serving import RunningServer

SCHEMA = {
    "type": "object",
    "properties": {
        "é, x": {"type": "string", "pattern": "^(?!a)b?$", "maxLength": 3},
        "list": {"type": "array", "items": {"const": 1}, "uniqueItems": True, "maxItems": 2},
    },
}
IN_FORMAT = "properties.%C3%A9%2C x.pattern, response_format: properties.list.uniqueItems"


def fields(strict: bool | None, as_tool: bool) -> dict[str, Any]:
    if as_tool:
        function = {"name": "f", "parameters": SCHEMA, "strict": strict}
        return {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    wanted = {"name": "n", "schema": SCHEMA, "strict": strict}
    return {"response_format": {"type": "json_schema", "json_schema": wanted}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("as_tool", [False, True])
def test_an_answer_names_what_it_was_not_held_to(
    tiny_server: RunningServer, as_tool: bool, stream: bool
) -> None:
    response = tiny_server.chat(**fields(None, as_tool), stream=stream, max_tokens=60)

    assert response.status_code == 200
    source = "tools[0].function.parameters" if as_tool else "response_format"
    expected = f"{source}: {IN_FORMAT}".replace("response_format", source)
    assert response.headers["x-loosened-keywords"] == expected


@pytest.mark.parametrize("as_tool", [False, True])
def test_strict_schemas_are_refused_with_the_place(
    tiny_server: RunningServer, as_tool: bool
) -> None:
    response = tiny_server.chat(**fields(True, as_tool), max_tokens=60)

    assert response.status_code == 400
    assert "`properties.é, x.pattern`: it has look-around" in response.json()["error"]["message"]
    assert "x-loosened-keywords" not in response.headers


def test_an_answer_that_is_held_to_everything_has_no_header(tiny_server: RunningServer) -> None:
    response = tiny_server.chat(response_format={"type": "json_object"}, max_tokens=5)

    assert response.status_code == 200
    assert "x-loosened-keywords" not in response.headers


def test_the_log_has_the_reasons() -> None:
    record = RequestRecord([])
    with capture_logs() as logs:
        report_left_out([LeftOut("tools", "a.not", "why"), LeftOut("tools", "", "size")], record)
        report_left_out([], RequestRecord([]))

    [entry] = logs
    assert entry["event"] == "schema_loosened"
    assert entry["request_id"] == record.request_id
    assert entry["keywords"] == ["tools: a.not: why", "tools: size"]
    assert dict(record.response_headers())[b"x-loosened-keywords"] == b"tools: a.not, tools"


def test_a_header_has_an_end() -> None:
    notes = [LeftOut("tools", f"properties.{n}\n.pattern", "why") for n in range(500)]

    value = header_value(notes)

    assert len(value) < MAX_HEADER + 50
    assert value.startswith("tools: properties.0%0A.pattern, tools: properties.1%0A.pattern, ")
    assert value.endswith(" more")
    assert header_value([LeftOut("x" * 3000, "", "")]) == "and 1 more"
