"""Schemas as others write them: each is enforced, but for what is known to be left out."""

import copy
import json
import re
from random import Random
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuredOutput
from runtime.structured.grammars import GrammarCompiler
from tests.kit.grammars import guide, random_answer, takes
from tests.kit.schemas import Written
from tests.kit.schemas.drafts import LOOSENED, SPELLINGS
from tests.kit.schemas.generators import GENERATED
from tests.kit.schemas.servers import SERVERS

CORPUS = {**GENERATED, **SERVERS, **SPELLINGS, **LOOSENED}
COMPANIONS = {
    "if": ("then", "else"),
    "contains": ("minContains", "maxContains"),
    "patternProperties": ("additionalProperties",),
}
NUM_SAMPLES = 8


def asked(schema: dict[str, Any], *, is_strict: bool = False) -> StructuredOutput:
    return StructuredOutput(json=json.dumps(schema), is_strict=is_strict)


def kept(schema: dict[str, Any], paths: tuple[str, ...]) -> dict[str, Any]:
    """The schema without the keywords at these paths, by its own means."""
    schema = copy.deepcopy(schema)
    for path in paths:
        *keys, last = _keys(path)
        part = schema
        for key in keys:
            part = part[int(key) if isinstance(part, list) else key]
        removed = part.pop(last)
        if last == "oneOf":
            part["anyOf"] = removed
        for companion in COMPANIONS.get(last, ()):
            part.pop(companion, None)
    return schema


def _keys(path: str) -> list[str]:
    if path.startswith("patternProperties."):
        return path.split(".", 1)
    return re.findall(r"[^.\[\]]+", path)


@pytest.mark.parametrize("name", CORPUS)
def test_what_cannot_be_enforced_is_left_out_and_nothing_else(
    compiler: GrammarCompiler, name: str
) -> None:
    written = CORPUS[name]

    grammar = compiler.compile(asked(written.schema)).result()

    assert sorted(note.path for note in grammar.left_out) == sorted(written.left_out)
    assert all(note.reason and note.source == "response_format" for note in grammar.left_out)
    for value in written.fits:
        assert takes(compiler, asked(written.schema), json.dumps(value)), value


@pytest.mark.parametrize("name", CORPUS)
def test_a_strict_schema_is_enforced_in_full_or_refused_with_the_place(
    compiler: GrammarCompiler, name: str
) -> None:
    written = CORPUS[name]
    strict = asked(written.schema, is_strict=True)
    if not written.left_out:
        compiler.compile(strict).result()  # must not raise
        return

    with pytest.raises(InvalidRequest) as caught:
        compiler.compile(strict).result()

    [place] = re.findall(
        r"`response_format` cannot be enforced: (?:in its schema, at )?`?([^`]*)", str(caught.value)
    )
    assert place in written.left_out or any("oneOf" in path for path in written.left_out)


@pytest.mark.parametrize("name", CORPUS)
def test_every_answer_fits_what_is_kept(compiler: GrammarCompiler, name: str) -> None:
    written = CORPUS[name]
    validator = _validator(kept(written.schema, written.left_out))
    random, num_whole = Random(name), 0
    for _ in range(NUM_SAMPLES):
        text = random_answer(guide(compiler, asked(written.schema)), random, most=2000)
        if text is not None:
            assert list(validator.iter_errors(json.loads(text))) == []
            num_whole += 1
    assert num_whole, "no answer came to its end"


@pytest.mark.parametrize("name", CORPUS)
def test_the_examples_fit_what_is_kept(name: str) -> None:
    """The corpus itself is right."""
    written = CORPUS[name]
    for value in written.fits:
        validator = _validator(kept(written.schema, written.left_out))
        assert list(validator.iter_errors(value)) == []


def _validator(schema: dict[str, Any]) -> Any:
    """A missing target would be an error of the validator, and null keywords are none."""
    return validator_for(schema, default=Draft202012Validator)(_without_nulls(schema))


def _without_nulls(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_nulls(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        key: _without_nulls(value)
        for key, value in part.items()
        if value is not None or key in ("const", "default")
    }


def test_the_corpus_is_large_enough() -> None:
    assert len(CORPUS) >= 70
    assert all(isinstance(written, Written) and written.fits for written in CORPUS.values())
