"""Responses: what is asked for, and how their events are read."""

import json
from collections.abc import Sequence
from typing import Any

from gateway.generation.writer import Head
from tests.kit.chat.answers import error_of, good
from tests.kit.openai.schemas import (
    check_error,
    check_response,
    check_response_event,
)
from tests.kit.serving import (
    RunningServer,
)

URL = "/v1/responses"
SENTENCE = 'The "quick"\n\nbrown fox, 狐狸! '
ARGUMENTS = '{"city": "Zürich"}'
CALL = f'<tool_call>\n{{"name": "f", "arguments": {ARGUMENTS}}}\n</tool_call>'
SCRIPT = f"Shall I?</think>{CALL}"
FUNCTION: dict[str, Any] = {
    "type": "function",
    "name": "f",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


HEAD = Head("resp_1", 1, "m", "fp")


def parse(text: str) -> list[dict[str, Any]]:
    """The events of a stream: named, numbered, each as OpenAI has it, the last one an end."""
    assert text.endswith("\n\n")
    events = []
    for written in text[:-2].split("\n\n"):
        if written.startswith(":"):
            continue
        name, data = written.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        check_response_event(event)
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def fold(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a client makes of a stream; that it is in order, and true of its own end."""
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in ("response.completed", "response.incomplete", "response.failed")
    items: list[dict[str, Any]] = []
    done: set[int] = set()
    for event in events[2:-1]:
        kind, index = event["type"], event["output_index"]
        if kind == "response.output_item.added":
            assert index == len(items)
            assert event["item"].get("status", "in_progress") == "in_progress"
            items.append(event["item"])
            continue
        item = items[index]
        assert index not in done, "nothing comes behind the end of an item"
        if kind == "response.output_item.done":
            done.add(index)
            assert {**event["item"], "status": ""} == {**item, "status": ""}
            items[index] = event["item"]
            continue
        assert event["item_id"] == item["id"]
        _apply(kind, event, item)
    end = events[-1]["response"]
    assert {event["response"]["id"] for event in (events[0], events[1])} == {end["id"]}
    if kinds[-1] == "response.failed":
        for index in set(range(len(items))) - done:
            items[index]["status"] = "incomplete"
    else:
        assert done == set(range(len(items)))
    assert end["output"] == items
    return dict(end)


def _apply(kind: str, event: dict[str, Any], item: dict[str, Any]) -> None:
    match kind:
        case "response.content_part.added":
            assert event["content_index"] == len(item["content"])
            assert event["part"]["text"] == ""
            item["content"].append(event["part"])
        case "response.output_text.delta":
            part = item["content"][event["content_index"]]
            part["text"] += event["delta"]
            part["logprobs"] += event["logprobs"]
        case "response.reasoning_text.delta":
            item["content"][event["content_index"]]["text"] += event["delta"]
        case "response.output_text.done":
            part = item["content"][event["content_index"]]
            assert (event["text"], event["logprobs"]) == (part["text"], part["logprobs"])
        case "response.reasoning_text.done":
            assert event["text"] == item["content"][event["content_index"]]["text"]
        case "response.content_part.done":
            assert event["part"] == item["content"][event["content_index"]]
        case "response.function_call_arguments.delta":
            item["arguments"] += event["delta"]
        case "response.function_call_arguments.done":
            assert (event["name"], event["arguments"]) == (item["name"], item["arguments"])
        case _:
            raise AssertionError(f"an event that is not known: {kind}")


def without_ids(answer: dict[str, Any]) -> dict[str, Any]:
    """What two answers to the same question have in common; their ids are checked."""
    prefixes = {"message": "msg_", "reasoning": "rs_", "function_call": "fc_"}
    output = []
    for item in answer["output"]:
        assert item["id"].startswith(prefixes[item["type"]])
        assert item["type"] != "function_call" or item["call_id"].startswith("call_")
        output.append({key: item[key] for key in item.keys() - {"id", "call_id"}})
    same = answer.keys() - {"id", "created_at", "completed_at", "output", "usage"}
    usage = dict(answer.get("usage", {}))
    usage.pop("input_tokens_details", None)  # the second one finds the first one's prompt
    return {**{key: answer[key] for key in same}, "output": output, "usage": usage}


def ask(server: RunningServer, **body: Any) -> dict[str, Any]:
    """The whole answer, of which the stream says the same."""
    body = {"seed": 1, "input": "hi", **body}
    answer = good(server.post(URL, **body))
    check_response(answer)
    streamed = server.post(URL, **body, stream=True)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert without_ids(fold(parse(streamed.text))) == without_ids(answer)
    return answer


def refused(server: RunningServer, **body: Any) -> dict[str, Any]:
    response = server.post(URL, **{"input": "hi", **body})
    check_error(response.json())
    return error_of(response)


HI = {"role": "user", "content": "hi"}
