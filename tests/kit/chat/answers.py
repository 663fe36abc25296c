"""What clients make of answers: good ones and errors, streamed ones and those in one piece."""

import json
from collections.abc import Sequence
from typing import Any

import httpx

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
RESPONSES = "/v1/responses"
EMBEDDINGS = "/v1/embeddings"
RERANK = "/v1/rerank"
SCORE = "/v1/score"
HI = [{"role": "user", "content": "hi"}]


def good(response: httpx.Response) -> dict[str, Any]:
    """The answer of a 200."""
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def error_of(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The error of a response with this status."""
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def chunks_of(frames: bytes) -> list[dict[str, Any]]:
    """The chunks in a stream's bytes, before its end."""
    return [
        json.loads(event.removeprefix("data: ")) for event in frames.decode().split("\n\n")[:-1]
    ]


def streamed_messages(
    chunks: Sequence[dict[str, Any]], *, exact: bool = False
) -> list[dict[str, Any]]:
    """What a client makes of a streamed chat: a message for each choice, with how it ended. `exact`
    keeps what is not the same in every answer: ids of calls, and the scores of tokens."""
    messages: dict[int, dict[str, Any]] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        delta, end = choice["delta"], choice["finish_reason"]
        message = messages.setdefault(
            choice["index"],
            {
                "content": "",
                "reasoning": "",
                "tool_calls": [],
                "logprobs": [],
                "finish_reason": None,
            },
        )
        assert message["finish_reason"] is None, "nothing comes behind the end"
        assert end is None or delta == {}
        assert delta.get("reasoning_content") == delta.get("reasoning")
        message["content"] += delta.get("content", "")
        message["reasoning"] += delta.get("reasoning", "")
        message["logprobs"] += _logprobs(choice, exact)
        message["finish_reason"] = end
        for call in delta.get("tool_calls", ()):
            _add_call(message["tool_calls"], call, exact)
    return [messages[index] for index in sorted(messages)]


def whole_messages(
    answer: dict[str, Any], *, exact: bool = False, must_call: bool = False
) -> list[dict[str, Any]]:
    """The same of a chat in one piece. With `must_call` it has no content, also without a call."""
    told = []
    for choice in answer["choices"]:
        message = choice["message"]
        calls = message.get("tool_calls", [])
        assert message["content"] is not None or calls or must_call
        assert len({call["id"] for call in calls}) == len(calls)
        assert all(call["id"].startswith("call_") for call in calls)
        assert message.get("reasoning_content") == message.get("reasoning")
        told.append(
            {
                "content": message["content"] or "",
                "reasoning": message.get("reasoning", ""),
                "tool_calls": [_call(call, exact) for call in calls],
                "logprobs": _logprobs(choice, exact),
                "finish_reason": choice["finish_reason"],
            }
        )
    return told


def _add_call(calls: list[dict[str, str]], call: dict[str, Any], exact: bool) -> None:
    function = call["function"]
    if "id" in call:
        assert call["index"] == len(calls)
        assert (call["type"], function["arguments"]) == ("function", "")
        calls.append(_call(call, exact))
    else:
        assert (call.keys(), function.keys()) == ({"index", "function"}, {"arguments"})
        calls[call["index"]]["arguments"] += function["arguments"]


def _call(call: dict[str, Any], exact: bool) -> dict[str, str]:
    return {**call["function"], **({"id": call["id"]} if exact else {})}


def _logprobs(choice: dict[str, Any], exact: bool) -> list[Any]:
    entries = (choice["logprobs"] or {"content": []})["content"]
    return entries if exact else [entry["token"] for entry in entries]
