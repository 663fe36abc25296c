"""The benchmark of sampled answers under schemas, on the tiny random model: all that stop fit."""

import json
from pathlib import Path
from random import Random

from sampled_schemas import Sampling, Verdicts, complaint_about, enforced, sample, suite_schemas

from tests.kit.engines import needs_llama_library
from tests.kit.random_schemas import random_schema
from tests.kit.serving import MODEL, RunningServer

needs_llama_library()

NUM_SCHEMAS, NUM_ANSWERS = 20, 80


def test_whatever_stops_fits(tiny_server: RunningServer):
    schemas = [random_schema(Random(number)) for number in range(NUM_SCHEMAS)]
    verdicts = sample(
        tiny_server.port, schemas, Sampling(MODEL, seed=7), num_answers=NUM_ANSWERS, concurrency=16
    )

    assert verdicts.failures == []
    assert verdicts.invalid == []
    assert verdicts.reasons.total() == NUM_ANSWERS
    assert verdicts.num_valid == verdicts.reasons["stop"] > NUM_ANSWERS / 2


def test_refused_schemas_are_passed_over(tiny_server: RunningServer, tmp_path: Path):
    good, bad = {"type": "boolean"}, {"type": "strin"}
    groups = [{"schema": schema} for schema in (bad, True, good, bad, good, good)]
    (tmp_path / "a.json").write_text(json.dumps(groups))

    assert enforced(tiny_server.port, MODEL, suite_schemas(tmp_path), 2) == [good, good]
    assert enforced(tiny_server.port, MODEL, suite_schemas(tmp_path), 9) == [good] * 3


def test_what_does_not_fit_is_found():
    schema = {"type": "integer", "maximum": 3}
    verdicts = Verdicts()
    for text, reason in (("2", "stop"), ("4", "stop"), ("{", "stop"), ("{", "length")):
        verdicts.add(schema, {"finish_reason": reason, "message": {"content": text}})

    assert dict(verdicts.reasons) == {"stop": 3, "length": 1}
    assert verdicts.num_valid == 1
    assert [each["text"] for each in verdicts.invalid] == ["4", "{"]
    assert complaint_about("4", schema) == "4 is greater than the maximum of 3"
