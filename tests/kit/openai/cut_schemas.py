"""Cut the schemas of answers out of OpenAI's published OpenAPI document (repository
openai/openai-openapi, MIT licence) into `schemas.json`:

    python tests/kit/openai/cut_schemas.py openapi.json

Descriptions are left out. Of requests only the names of fields are kept.
"""

import json
import sys
from pathlib import Path
from typing import Any

ANSWERS = (
    *("CreateChatCompletionResponse", "CreateChatCompletionStreamResponse"),
    *("CreateCompletionResponse", "ListModelsResponse", "Model", "ErrorResponse"),
    *("Response", "ResponseStreamEvent", "TokenCountsResource", "CreateEmbeddingResponse"),
)
REQUESTS = (
    *("CreateChatCompletionRequest", "CreateCompletionRequest", "CreateResponse"),
    "CreateEmbeddingRequest",
)
PREFIX = "#/components/schemas/"
DROPPED = {"description", "example", "examples", "title", "deprecated", "nullable"}


def cut(document: Any) -> dict[str, Any]:
    schemas = document["components"]["schemas"]
    kept: dict[str, Any] = {}
    missing = list(ANSWERS)
    while missing:
        name = missing.pop()
        if name not in kept:
            kept[name] = _bare(schemas[name])
            missing.extend(_references(kept[name]))
    return {
        "source": "openai/openai-openapi (MIT licence), cut by tests/kit/openai/cut_schemas.py",
        "version": document["info"]["version"],
        "request_fields": {name: sorted(_fields(schemas[name], schemas)) for name in REQUESTS},
        "components": {"schemas": dict(sorted(kept.items()))},
    }


def _bare(schema: Any, *, is_names: bool = False) -> Any:
    if isinstance(schema, list):
        return [_bare(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    bare = {
        key: _bare(value, is_names=key == "properties" and not is_names)
        for key, value in schema.items()
        if is_names or not (key in DROPPED or key.startswith("x-"))
    }
    return {"anyOf": [bare, {"type": "null"}]} if schema.get("nullable") is True else bare


def _references(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {name for part in schema for name in _references(part)}
    if not isinstance(schema, dict):
        return set()
    names = {name for part in schema.values() for name in _references(part)}
    if isinstance(reference := schema.get("$ref"), str):
        names.add(reference.removeprefix(PREFIX))
    return names


def _fields(schema: Any, schemas: Any) -> set[str]:
    if "$ref" in schema:
        return _fields(schemas[schema["$ref"].removeprefix(PREFIX)], schemas)
    parts = [_fields(part, schemas) for part in schema.get("allOf", ())]
    return set(schema.get("properties", ())).union(*parts)


if __name__ == "__main__":
    published = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    target = Path(__file__).with_name("schemas.json")
    target.write_text(json.dumps(cut(published), indent=1) + "\n", encoding="utf-8")
