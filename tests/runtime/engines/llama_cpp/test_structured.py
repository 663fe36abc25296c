"""Structured answers of the embedded engine, on a tiny random model that would say anything."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from msgspec import structs

from runtime.config.engine import EngineConfig
from runtime.engines.base import SequenceOutput
from runtime.engines.llama_cpp.engine import LlamaCppEngine
from runtime.errors import InvalidRequest
from runtime.messages.request import Request
from runtime.messages.structured_output import StructuredOutput
from runtime.messages.wire import RequestFailed, StepOutput
from runtime.tokenizers.load import load_tokenizer
from runtime.tokenizers.tokenizer import Tokenizer
from runtime.worker.core import EngineCore
from tests.kit.chat.answers import CHAT, HI
from tests.kit.engines import ONE_THREAD, a_request, engine_answers, needs_llama_library
from tests.kit.random_schemas import random_schema
from tests.kit.serving import RunningServer, text_of_chunks

needs_llama_library()

NUM_SCHEMAS = 50
SAMPLES = 4
POINT = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "y": {"enum": ["up", "down"]}},
    "required": ["x", "y"],
    "additionalProperties": False,
}
HARD = {"enum": [f"v{number}" for number in range(100_000)]}
SETTINGS = {"max_num_seqs": 8, "num_kv_tokens": 4096}


@pytest.fixture(scope="module")
def tokenizer(tiny_model_path: Path) -> Tokenizer:
    return load_tokenizer(str(tiny_model_path))


@pytest.fixture(scope="module")
def shared_engine(tiny_model_path: Path, tokenizer: Tokenizer) -> Iterator[LlamaCppEngine]:
    config = EngineConfig(llama_cpp=ONE_THREAD, **SETTINGS)  # type: ignore[arg-type]
    engine = LlamaCppEngine(config, str(tiny_model_path), tokenizer)
    yield engine
    engine.close()


@pytest.fixture
def engine(shared_engine: LlamaCppEngine) -> Iterator[LlamaCppEngine]:
    yield shared_engine
    assert shared_engine.num_running == 0, "a test left a sequence behind"
    assert not shared_engine._grammars, "a test left a grammar behind"


def request(request_id: str, wanted: StructuredOutput | None, **fields: Any) -> Request:
    plain = {"prompt_token_ids": [10, 20, 30], "max_tokens": 150, "temperature": 2.0, "seed": 1}
    return a_request(request_id, structured_output=wanted, **{**plain, **fields})


def schema_of(schema: dict[str, Any]) -> StructuredOutput:
    return StructuredOutput(json=json.dumps(schema))


def text_of(tokenizer: Tokenizer, answer: SequenceOutput) -> str:
    return b"".join(map(tokenizer.token_bytes, answer.token_ids)).decode()


def test_every_answer_that_stops_fits_its_schema(engine: LlamaCppEngine, tokenizer: Tokenizer):
    schemas = [random_schema(Random(number)) for number in range(NUM_SCHEMAS)]
    requests = [
        request(f"{number} {sample}", schema_of(schema), seed=sample)
        for number, schema in enumerate(schemas)
        for sample in range(SAMPLES)
    ]

    answers = engine_answers(engine, *requests)

    whole = {name: answer for name, answer in answers.items() if answer.finish_reason == "stop"}
    assert len(whole) > 0.8 * len(requests)
    for name, answer in whole.items():
        value = json.loads(text_of(tokenizer, answer))
        Draft202012Validator(schemas[int(name.split()[0])]).validate(value)


def test_greedy_and_restricted_sampling_keep_to_the_grammar(
    engine: LlamaCppEngine, tokenizer: Tokenizer
):
    wanted = StructuredOutput(choice=("left", "right", "don't know"))
    for fields in ({"temperature": 0.0}, {"temperature": 0.01}):
        answer = engine_answers(engine, request("r", wanted, **fields))["r"]
        assert text_of(tokenizer, answer) in wanted.choice
        assert answer.finish_reason == "stop"
    for sampling in ({"top_k": 1}, {"top_k": 500}, {"top_p": 0.01}, {"min_p": 0.9}):
        asked = a_request(max_tokens=30, structured_output=wanted, **sampling)
        answer = engine_answers(engine, asked)["r"]
        assert text_of(tokenizer, answer) in wanted.choice


def test_an_answer_that_cannot_go_on_stops_without_a_token_for_it(
    engine: LlamaCppEngine, tokenizer: Tokenizer
):
    answer = engine_answers(engine, request("r", StructuredOutput(regex="[0-9]{3}"), max_tokens=3))[
        "r"
    ]

    assert text_of(tokenizer, answer).isdigit()
    assert answer.finish_reason == "stop"
    assert not set(answer.token_ids) & tokenizer.eog_token_ids


def test_an_answer_that_is_cut_short_says_so(engine: LlamaCppEngine):
    wanted = StructuredOutput(regex="[0-9]{40}")

    assert engine_answers(engine, request("r", wanted, max_tokens=5))["r"].finish_reason == "length"


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_preempted_and_resumed_answers_go_on_where_they_stood(engine: LlamaCppEngine, steps: int):
    wanted = schema_of({"type": "array", "items": POINT, "minItems": 3, "maxItems": 3})
    whole = engine_answers(engine, request("r", wanted))["r"]
    assert len(whole.token_ids) > 25

    begun = engine_answers(engine, request("r", wanted), steps=steps)["r"]
    engine.preempt("r")
    (preempted,) = engine.take_preempted()
    assert preempted.output_token_ids == begun.token_ids == whole.token_ids[:steps]
    rest = engine_answers(engine, preempted)["r"]
    assert (rest.token_ids, rest.finish_reason) == (whole.token_ids[steps:], whole.finish_reason)

    resumed = request("other", wanted, output_token_ids=begun.token_ids)
    assert engine_answers(engine, resumed)["other"].token_ids == rest.token_ids


def test_a_grammar_that_gets_too_hard_fails_alone(engine: LlamaCppEngine, tokenizer: Tokenizer):
    hard = StructuredOutput(regex="(.*[ -z].{90}){20}")
    engine.add(request("hard", hard, max_tokens=1000, ignore_eos=True))
    engine.add(request("easy", None, max_tokens=300, ignore_eos=True))
    failed, easy = [], 0
    while engine.num_running:
        easy += sum(output.request_id == "easy" for output in engine.step())
        failed += engine.take_failed()

    assert easy == 300
    (one,) = failed
    assert one.request_id == "hard"
    assert isinstance(one.error, InvalidRequest)
    assert one.error.param == "response_format"


def test_others_go_on_while_a_hard_schema_is_compiled(engine: LlamaCppEngine, tokenizer: Tokenizer):
    core = EngineCore(engine, tokenizer, EngineConfig(**SETTINGS))  # type: ignore[arg-type]
    core.submit(request("easy", None, max_tokens=100_000, ignore_eos=True))
    core.step()
    core.submit(request("hard", structs.replace(schema_of(HARD), is_strict=True)))
    assert core.is_preparing
    core.take_messages()
    started = last = time.monotonic()
    gaps, refusals = [], []
    while not refusals:
        if not engine.num_running:  # it has filled the context
            core.submit(request("easy", None, max_tokens=100_000, ignore_eos=True))
        core.step()
        now = time.monotonic()
        gaps.append(now - last)
        last = now
        messages = core.take_messages()
        refusals = [each for each in messages if isinstance(each, RequestFailed)]
        stepped = [each for each in messages if isinstance(each, StepOutput)]
        assert [output.request_id for each in stepped for output in each.outputs] == ["easy"]
    core.abort("easy")

    assert (refusals[0].request_id, refusals[0].kind) == ("hard", "invalid")
    assert len(gaps) > 20
    assert max(gaps) < 0.5 * (last - started), "a step waited for the schema"


def test_what_is_forgotten_while_it_is_compiled_leaves_nothing(
    engine: LlamaCppEngine, tokenizer: Tokenizer
):
    core = EngineCore(engine, tokenizer, EngineConfig(**SETTINGS))  # type: ignore[arg-type]
    for number in range(3):
        core.submit(request(f"r{number}", schema_of({**HARD, "title": str(number)})))
        core.abort(f"r{number}")

    assert not core.is_preparing
    assert not core.has_work


def response_format(schema: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **fields}}


def test_whole_and_streamed_answers_over_http(tiny_server: RunningServer):
    body = {"response_format": response_format(POINT), "seed": 5, "max_tokens": 200}
    choice = tiny_server.chat(**body).json()["choices"][0]
    chunks = tiny_server.chunks(CHAT, messages=HI, **body)

    assert choice["finish_reason"] == "stop"
    Draft202012Validator(POINT).validate(json.loads(choice["message"]["content"]))
    assert text_of_chunks(chunks) == choice["message"]["content"]
    assert len(chunks) > 5


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        ({"guided_choice": ["red", "blue"]}, {"red", "blue"}),
        ({"structured_outputs": {"choice": ["red", "blue"]}}, {"red", "blue"}),
        ({"guided_regex": "[ab]"}, {"a", "b"}),
        ({"guided_grammar": 'root ::= "c" | "d"'}, {"c", "d"}),
        ({"guided_json": {"const": 1}}, {"1"}),
        ({"response_format": response_format({"const": "é"})}, {'"é"'}),
    ],
)
def test_completions_take_all_forms(
    tiny_server: RunningServer, body: dict[str, Any], answers: set[str]
):
    answer = tiny_server.post("/v1/completions", prompt="a", n=4, **body).json()

    assert {choice["text"] for choice in answer["choices"]} <= answers
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"stop"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_cannot_be_enforced_is_a_400(tiny_server: RunningServer, stream: bool):
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    strict = response_format(schema, strict=True)
    response = tiny_server.chat(response_format=strict, stream=stream)

    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "response_format"
    assert "`properties.a.uniqueItems`" in error["message"]
