"""The event loop beside bodies that are as hostile as the limits allow."""

import json
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.kit.chat.answers import CHAT, HI
from tests.kit.command_line import Served, served

COMPLETIONS = "/v1/completions"


def call(arguments: str = "{}") -> dict[str, object]:
    return {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}


def chats(*messages: dict[str, object]) -> dict[str, object]:
    return {"messages": list(messages), "max_tokens": 1}


def items(item: dict[str, object], number: int) -> dict[str, object]:
    return {"input": [item] * number, "max_output_tokens": 1}


CALL = {"type": "function_call", "call_id": "a", "name": "f", "arguments": ""}
THOUGHT = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "a"}]}

MESSAGE = {"role": "user", "content": "some words of no weight"}
SUMMARY = {"type": "compaction", "encrypted_content": "lockgate.1.AAAA"}

ATTACKS = {
    "messages": (CHAT, chats(*[{"role": "user", "content": ""}] * 29_000)),
    "stored messages": (
        CHAT,
        {**chats(*[{"role": "user", "content": [], "name": "a"}] * 14_000), "store": True},
    ),
    "calls": (CHAT, chats({"role": "assistant", "tool_calls": [call()] * 10_000})),
    "arguments": (CHAT, chats({"role": "assistant", "tool_calls": [call(str([1] * 49_999))]})),
    "items": ("/v1/responses", items(CALL, 16_000)),
    "thoughts": ("/v1/responses", items(THOUGHT, 14_000)),
    "history": ("/v1/responses", {**items(MESSAGE, 29_000), "truncation": "auto"}),
    "rounds": ("/v1/responses", {**items(CALL, 16_000), "truncation": "auto"}),
    "summaries": ("/v1/responses", items(SUMMARY, 20_000)),
    "to sum up": ("/v1/responses/compact", {"input": [MESSAGE] * 29_000, "truncation": "auto"}),
    "fields": (CHAT, {**chats(*HI), **{f"field-{number}": 0 for number in range(140_000)}}),
    "ids": (COMPLETIONS, {"prompt": [97] * 990_000}),
    "prompts": (COMPLETIONS, {"prompt": [[97]] * 149_000}),
    "angle brackets": (COMPLETIONS, {"prompt": "<" * 8_000_000}),
    "half a character": (COMPLETIONS, {"prompt": [97] * 900_000, "user": "\ud800"}),
    "tokens": ("/detokenize", {"tokens": [97] * 990_000}),
}


def metric(server: Served, name: str) -> float:
    families = text_string_to_metric_families(server.http.get("/metrics").text)
    [value] = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"lockgate_{name}"
    ]
    return value


def test_no_body_holds_the_loop(tmp_path: Path):
    """By the CPU time of the loop's own thread, because the machine may be busy."""
    with served(tmp_path, "--set", "engine.max_model_len=100000") as server:
        for name, (path, body) in ATTACKS.items():
            content = json.dumps({"model": "scripted", **body}).encode()
            headers = {"content-type": "application/json"}
            response = server.http.post(path, content=content, headers=headers)
            assert response.status_code in (200, 400, 429), (name, response.text)
            assert metric(server, "event_loop_work_seconds") < 0.05, name
            assert metric(server, "body_memory_bytes") == 0, name
