"""Guides on a vocabulary of bytes, against an independent validator."""

import itertools
import json
import re
from collections import deque
from importlib.metadata import version
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuredOutput
from runtime.structured.grammars import MAX_GRAMMARS, MAX_USES, GrammarCompiler
from runtime.structured.vocabulary import grammar_tokenizer
from tests.kit.grammars import TOKENIZER, accepts, guide, random_answer
from tests.kit.random_schemas import random_schema, random_value, text_of

EOS = TOKENIZER.eos_token_id


def schema_of(schema: Any, *, is_strict: bool = False) -> StructuredOutput:
    return StructuredOutput(json=json.dumps(schema), is_strict=is_strict)


@settings(max_examples=60, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_every_answer_that_ends_fits_its_schema(compiler: GrammarCompiler, random: Random):
    schema = random_schema(random)
    for _ in range(3):
        text = random_answer(guide(compiler, schema_of(schema)), random)
        if text is not None:
            Draft202012Validator(schema).validate(json.loads(text))  # must not raise


@settings(max_examples=150, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_what_fits_may_come_and_nothing_else(compiler: GrammarCompiler, random: Random):
    schema = random_schema(random)
    value = random_value(schema, random)
    fits = Draft202012Validator(schema).is_valid(value)

    assert accepts(guide(compiler, schema_of(schema)), text_of(value, random)) == fits


@settings(max_examples=60, deadline=None)
@given(
    choices=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, unique=True),
    random=st.randoms(use_true_random=False),
)
def test_a_choice_is_said_letter_by_letter(
    compiler: GrammarCompiler, choices: list[str], random: Random
):
    wanted = StructuredOutput(choice=tuple(choices))

    assert random_answer(guide(compiler, wanted), random, most=5000) in choices
    for choice in choices:
        assert accepts(guide(compiler, wanted), choice)
    other = random.choice(choices) + "?"
    assert accepts(guide(compiler, wanted), other) == (other in choices)


@pytest.mark.parametrize(
    "regex", ["[a-c]{2,5}x?", "^(yes|no)[.!]$", r"\d{3}-\d{2}/\w", "(ab)*c", ""]
)
def test_a_regular_expression_is_for_the_whole_answer(compiler: GrammarCompiler, regex: str):
    random = Random(1)
    for _ in range(20):
        text = random_answer(guide(compiler, StructuredOutput(regex=regex)), random)
        assert text is not None
        assert re.fullmatch(regex, text, re.ASCII)


@pytest.mark.parametrize(
    "grammar",
    ['start: "(" start ")" | /[0-9]+/', 'root ::= "(" root ")" | [0-9]+'],
    ids=["Lark", "GBNF"],
)
def test_grammars_of_two_dialects(compiler: GrammarCompiler, grammar: str):
    wanted = StructuredOutput(grammar=grammar)

    for text, fits in (("((17))", True), ("((17)", False), ("()", False), ("7", True)):
        assert accepts(guide(compiler, wanted), text) == fits


def test_any_object_is_an_object(compiler: GrammarCompiler):
    wanted = StructuredOutput(json_object=True)

    for text, fits in (('{"a": [1, {"b": null}]}', True), ("{}", True), ("[]", False)):
        assert accepts(guide(compiler, wanted), text) == fits


@pytest.mark.skipif(
    tuple(map(int, version("llguidance").split(".")[:2])) < (1, 8),
    reason="this llguidance does not count blanks",
)
def test_blanks_come_to_an_end(compiler: GrammarCompiler):
    wanted = StructuredOutput(json_object=True)

    assert accepts(guide(compiler, wanted), '{"a":' + " " * 40 + "1}")
    assert not accepts(guide(compiler, wanted), '{"a":' + " " * 41 + "1}")


def test_control_tokens_are_no_text(compiler: GrammarCompiler):
    """Within a string anything may come, but not the tokens that stand for nothing."""
    open_string = guide(compiler, schema_of({"type": "string"}))
    open_string.push(list(b'"<|im_'))

    assert open_string.allowed[: ord("z")].sum() > 80
    assert not open_string.allowed[256:].any()


def test_an_answer_may_end_only_where_it_is_whole(compiler: GrammarCompiler):
    state = guide(compiler, StructuredOutput(regex="ab?"))
    assert np.flatnonzero(state.allowed).tolist() == [ord("a")]

    state.push([ord("a")])
    assert np.flatnonzero(state.allowed).tolist() == [ord("b"), *sorted(TOKENIZER.eog_token_ids)]
    assert not state.is_complete

    state.push([ord("b")])
    assert np.flatnonzero(state.allowed).tolist() == sorted(TOKENIZER.eog_token_ids)
    assert state.is_complete


def test_the_end_can_be_put_off_but_not_beyond_the_grammar(compiler: GrammarCompiler):
    wanted = StructuredOutput(regex="a{1,4}")
    for sampling, ends in (
        ({"min_tokens": 3}, [False, False, True, True]),
        ({"ignore_eos": True}, [False, False, False, True]),
        ({"stop_token_ids": (65,)}, [True] * 4),
    ):
        state = guide(compiler, wanted, **sampling)
        for may_end in ends:
            state.push([ord("a")])
            assert state.allowed[EOS] == may_end
        assert state.is_complete
    assert state.allowed[65], "a stop token is an end"


def test_a_token_that_is_not_allowed_is_not_taken(compiler: GrammarCompiler):
    with pytest.raises(InvalidRequest) as caught:
        guide(compiler, StructuredOutput(regex="abc", source="guided_regex")).push([ord("x")])
    assert caught.value.param == "guided_regex"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"type": "strin"}, "`type`.*strin"),
        ({"properties": {"a": {"items": {"uniqueItems": True}}}}, "`properties.a.items.uniqueIt"),
        ({"anyOf": [{"type": "null"}, {"pattern": "(("}]}, r"`anyOf\[1\].pattern`.*unclosed"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"not": {"enum": [1]}}}}, r"`\$defs.a.not`"),
        ({"properties": {"a": {"$ref": "#/$defs/q"}}}, r"`properties.a.\$ref`.*/\$defs/q"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "`minimum`"),
        ({"$ref": "#"}, r"`\$ref`.*leads back"),
        (StructuredOutput(regex="(("), "no regular expression: unclosed group"),
        (StructuredOutput(regex=r"(a)\1"), "back-reference"),
        (StructuredOutput(regex="(?=a)b"), "look-around"),
        (StructuredOutput(regex="[a&&b]"), "no text fits it"),
        (StructuredOutput(regex="(a?){500}a{500}b"), "too large"),
        (StructuredOutput(grammar="start: other"), "the rule `other` is used and not defined"),
        (StructuredOutput(grammar="root ::= other"), "the rule `other` is used and not defined"),
        (StructuredOutput(grammar="start: start"), "no text fits it.* itself"),
        (StructuredOutput(grammar='start: A\nA: A "x"'), "the token `A` needs itself"),
        (StructuredOutput(grammar="other"), "its line 1 has no `::=`"),
        (StructuredOutput(grammar="root ::= ("), "cannot be enforced"),
        (StructuredOutput(json="{"), "no JSON"),
        (StructuredOutput(json="[]"), "a schema is an object"),
        (StructuredOutput(json="[" * 5000), "nested too deeply"),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_its_place(
    compiler: GrammarCompiler, wanted: Any, words: str
):
    wanted = wanted if isinstance(wanted, StructuredOutput) else schema_of(wanted, is_strict=True)
    with pytest.raises(InvalidRequest) as caught:
        guide(compiler, wanted)
    assert caught.value.param == "response_format"
    assert not re.search("<state>|NoExtension|lexer|⟦", str(caught.value))
    assert re.search(words, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_grammar_is_compiled_once_for_a_number_of_requests():
    compiler = GrammarCompiler(TOKENIZER)
    wanted = StructuredOutput(regex="a")
    shared = [compiler.compile(wanted) for _ in range(MAX_USES)]
    for future in shared:
        assert future is shared[0]
        future.result()
    assert compiler.compile(wanted) is not shared[0]

    bad = StructuredOutput(regex="(")
    refused = compiler.compile(bad)
    assert refused.exception() is not None
    assert all(compiler.compile(bad) is refused for _ in range(3 * MAX_USES))

    for number in range(MAX_GRAMMARS):
        compiler.compile(StructuredOutput(regex=f"b{number}"))
    assert compiler.compile(bad) is not refused, "what was not wanted for longest is forgotten"
    compiler.close()


def test_an_answer_whose_tokens_take_too_long_is_ended(
    compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
):
    """A slow token now and then is forgiven, and many of them are not."""
    monkeypatch.setattr("runtime.structured.guide.TOKEN_SECONDS", 1e-9)
    monkeypatch.setattr("runtime.structured.guide.MAX_DEBT_SECONDS", 0.02)
    slow, other = (
        guide(compiler, StructuredOutput(regex=regex, source="guided_regex"))
        for regex in (r"(\p{L}{1,1000}\p{N}{1,1000}){50}", "[ab]*")
    )
    letters = itertools.repeat([ord("a")], 100_000)
    with pytest.raises(InvalidRequest, match=r"guided_regex.*after \d+ tokens.*takes too long"):
        deque(map(slow.push, letters), maxlen=0)
    other.push([ord("a")])  # must not raise


def test_answers_that_share_a_grammar_do_not_disturb_each_other(compiler: GrammarCompiler):
    """The lexer's states are counted for all of them: many answers, none of which may fail."""
    random = Random(2)
    wanted = StructuredOutput(regex="[ab]*a[ab]{12}")
    for _ in range(3 * MAX_USES):
        state = guide(compiler, wanted)
        for _ in range(200):
            state.push([random.choice(b"ab")])  # must not raise


def test_tokens_of_forced_text_are_exactly_that_text():
    class Blank:
        """Puts a blank before every text, as some tokenizers do."""

        def __getattr__(self, name: str) -> Any:
            return getattr(TOKENIZER, name)

        def encode(self, text: str, **options: bool) -> list[int]:
            if "long" in text:
                raise InvalidRequest("too long", param=None)
            return TOKENIZER.encode(" " + text, **options)

    for text in ("yes", "long", "日本"):
        assert grammar_tokenizer(Blank()).tokenize_str(text) == list(text.encode())
