"""Sampled answers of a server under many schemas, each of them validated.

The claim under test: whatever ends with `finish_reason` `stop` fits the schema that was asked for.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from jsonschema import Draft202012Validator
from wire import BadReply, connect, new_event_loop, post, read_body

PATH = "/v1/chat/completions"
PROMPTS = [
    "Fill in a form about yourself.",
    "Invent a record for a test database.",
    "Gib mir ein Beispiel mit Umlauten: ä, ö, ü.",
    "Write JSON. Use emoji, quotes and line breaks in the texts.",
    "Say something that is no JSON at all.",
]

Schema = dict[str, Any]


@dataclass(frozen=True)
class Sampling:
    """How answers are sampled. `seed` is that of the first; each next one has one more."""

    model: str
    max_tokens: int = 48
    temperature: float = 1.5
    seed: int = 0


@dataclass
class Verdicts:
    """What came: counts of finish reasons and of answers that validate, and those that do not."""

    reasons: Counter[str] = field(default_factory=Counter)
    num_valid: int = 0
    invalid: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, schema: Schema, choice: dict[str, Any]) -> None:
        """Judge one answer: only one that ends with `stop` has to fit."""
        self.reasons[choice["finish_reason"]] += 1
        if choice["finish_reason"] != "stop":
            return
        text = choice["message"]["content"]
        complaint = complaint_about(text, schema)
        if complaint is None:
            self.num_valid += 1
        else:
            self.invalid.append({"schema": schema, "text": text, "complaint": complaint})


def complaint_about(text: str, schema: Schema) -> str | None:
    """Why a text is no JSON that fits, or None. The value is jsonschema's judgement, not ours."""
    try:
        value = json.loads(text)
    except ValueError as error:
        return f"no JSON: {error}"
    errors = Draft202012Validator(schema).iter_errors(value)
    return next((error.message for error in errors), None)


def suite_schemas(folder: Path) -> Iterator[Schema]:
    """Schemas of a draft of the JSON-Schema-Test-Suite that are objects, file by file."""
    for path in sorted(folder.glob("*.json")):
        for group in json.loads(path.read_text("utf-8")):
            if isinstance(group["schema"], dict):
                yield group["schema"]


def enforced(port: int, model: str, candidates: Iterable[Schema], wanted: int) -> list[Schema]:
    """The first `wanted` schemas that the server does not refuse."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_enforced(port, model, candidates, wanted))


async def _enforced(
    port: int, model: str, candidates: Iterable[Schema], wanted: int
) -> list[Schema]:
    found: list[Schema] = []
    connection = await connect(port)
    for schema in candidates:
        if len(found) == wanted:
            break
        if connection.is_closed:
            connection = await connect(port)
        raw = await connection.exchange(post(PATH, _body(schema, Sampling(model, 1), 0)))
        try:
            read_body(raw.joined())
        except BadReply as error:
            if "status 400" not in str(error):
                raise
            continue
        found.append(schema)
    connection.close()
    return found


def sample(
    port: int, schemas: list[Schema], sampling: Sampling, *, num_answers: int, concurrency: int
) -> Verdicts:
    """Ask for `num_answers` answers, schema after schema in turn, so many at a time."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_sample(port, schemas, sampling, num_answers, concurrency))


async def _sample(
    port: int, schemas: list[Schema], sampling: Sampling, num_answers: int, concurrency: int
) -> Verdicts:
    verdicts, numbers = Verdicts(), iter(range(num_answers))

    async def client() -> None:
        connection = await connect(port)
        for number in numbers:
            schema = schemas[number % len(schemas)]
            try:
                if connection.is_closed:
                    connection = await connect(port)
                raw = await connection.exchange(post(PATH, _body(schema, sampling, number)))
                [choice] = json.loads(read_body(raw.joined()))["choices"]
            except (BadReply, OSError) as error:
                verdicts.failures.append(str(error) or type(error).__name__)
                continue
            verdicts.add(schema, choice)
        connection.close()

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return verdicts


def _body(schema: Schema, sampling: Sampling, number: int) -> dict[str, Any]:
    prompt = Random(number).choice(PROMPTS)
    return {
        "model": sampling.model,
        "messages": [{"role": "user", "content": prompt}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed + number,
    }
