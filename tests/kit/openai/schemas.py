"""Whether an answer is one that OpenAI's published document allows (`openai_schemas.json`)."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

DOCUMENT = json.loads(Path(__file__).with_name("schemas.json").read_text("utf-8"))
REQUEST_FIELDS: dict[str, list[str]] = DOCUMENT["request_fields"]


def check_answer(name: str, value: Any) -> None:
    """Raises jsonschema.ValidationError unless `value` fits the schema of this name."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(value)


def check_chat(answer: Any) -> None:
    check_answer("CreateChatCompletionResponse", answer)


def check_chat_chunk(chunk: Any) -> None:
    check_answer("CreateChatCompletionStreamResponse", chunk)


def check_completion(answer: Any) -> None:
    check_answer("CreateCompletionResponse", answer)


def check_completion_chunk(chunk: Any) -> None:
    """The published schema has no chunks of completions: it says that an answer always has its
    reason, and knows no `usage: null`. OpenAI's own streams have both."""
    choices = [{**choice, "finish_reason": "stop"} for choice in chunk["choices"]]
    assert all(choice["finish_reason"] in (None, "stop", "length") for choice in chunk["choices"])
    usage = {} if chunk.get("usage") is None else {"usage": chunk["usage"]}
    rest = {key: value for key, value in chunk.items() if key not in ("choices", "usage")}
    check_completion({**rest, "choices": choices, **usage})


def check_error(body: Any) -> None:
    check_answer("ErrorResponse", body)


def check_embeddings(answer: Any) -> None:
    check_answer("CreateEmbeddingResponse", answer)


def check_response(answer: Any) -> None:
    check_answer("Response", answer)


def check_response_event(event: Any) -> None:
    """By the schema of its type; of one that OpenAI does not have there is none."""
    check_answer(_EVENTS[event["type"]], event)


def _events() -> dict[str, str]:
    schemas = DOCUMENT["components"]["schemas"]
    names = [each["$ref"].rpartition("/")[2] for each in schemas["ResponseStreamEvent"]["anyOf"]]
    return {schemas[name]["properties"]["type"]["enum"][0]: name for name in names}


_EVENTS = _events()
