"""What a grammar takes, in the vocabulary of the scripted engine."""

import random
from typing import Any

import numpy as np

from runtime.errors import InvalidRequest
from runtime.messages.request import SamplingParams
from runtime.messages.structured_output import StructuredOutput
from runtime.structured.grammars import GrammarCompiler
from runtime.structured.guide import Guide
from runtime.tokenizers.load import load_tokenizer

TOKENIZER = load_tokenizer("")
SLOW: dict[str, Any] = {
    "type": "object",
    "properties": {f"p{n}": {"type": "integer", "multipleOf": 199_999 - 2 * n} for n in range(3)},
}
"""A schema whose automata take about four times as long as a trial may, so that a machine twice as
fast as those of today does not compile it in time."""


def takes(compiler: GrammarCompiler, asked: StructuredOutput, text: str) -> bool:
    """Whether the text may come and then end."""
    grammar = compiler.compile(asked).result()
    token_ids = TOKENIZER.encode(text, add_special=False, parse_special=True)
    if grammar.matcher.deep_copy().validate_tokens(token_ids) < len(token_ids):
        return False
    guide = Guide(grammar, SamplingParams(max_tokens=1, structured_output=asked))
    guide.push(token_ids)
    return bool(guide.allowed[TOKENIZER.eos_token_id])


def takes_token_by_token(compiler: GrammarCompiler, asked: StructuredOutput, text: str) -> bool:
    """Like `takes`, as an engine asks: which tokens may follow is computed after each one."""
    guide = Guide(
        compiler.compile(asked).result(), SamplingParams(max_tokens=1, structured_output=asked)
    )
    guide.push([])
    for token_id in TOKENIZER.encode(text, add_special=False, parse_special=True):
        if not guide.allowed[token_id]:
            return False
        guide.push([token_id])
    return bool(guide.allowed[TOKENIZER.eos_token_id])


def guide(compiler: GrammarCompiler, wanted: StructuredOutput, **sampling: Any) -> Guide:
    """At the beginning of an answer."""
    params = SamplingParams(max_tokens=1, structured_output=wanted, **sampling)
    guide = Guide(compiler.compile(wanted).result(), params)
    guide.push([])
    return guide


def accepts(guide: Guide, text: str) -> bool:
    """Whether the text may come, and the answer may end there."""
    try:
        guide.push(list(text.encode()))
    except InvalidRequest:
        return False
    return bool(guide.allowed[TOKENIZER.eos_token_id])


def random_answer(guide: Guide, dice: random.Random, most: int = 400) -> str | None:
    """A random answer, None for one that does not come to its end."""
    answer: list[int] = []
    while len(answer) < most and not guide.is_complete:
        if guide.allowed[TOKENIZER.eos_token_id] and dice.random() < 0.5:
            break
        allowed = np.flatnonzero(guide.allowed[:256]).tolist()
        ends = [byte for byte in allowed if byte in b'"]}'] if dice.random() < 0.2 else []
        answer.append(dice.choice(ends or allowed))
        guide.push(answer[-1:])
    return bytes(answer).decode() if len(answer) < most else None


def walk(
    compiler: GrammarCompiler,
    asked: StructuredOutput,
    dice: random.Random,
    *,
    start: str = "",
    now_and_then: str = "",
) -> str:
    """A random text that the grammar lets through after `start`, up to an end: at each byte one of
    those that may come, now and then a whole text."""
    params = SamplingParams(max_tokens=1, structured_output=asked)
    guide = Guide(compiler.compile(asked).result(), params)
    text: list[int] = []
    planned: list[int] = []
    guide.push(TOKENIZER.encode(start, add_special=False, parse_special=True))
    while True:
        choices = sorted({*map(int, guide.allowed.nonzero()[0])} - {*guide.end_token_ids})
        if guide.allowed[TOKENIZER.eos_token_id] and (not choices or dice.random() < 0.25):
            return b"".join(map(TOKENIZER.token_bytes, text)).decode()
        if not planned and len(choices) > 1 and dice.random() < 0.2:
            planned = list(now_and_then.encode())
        chosen = planned.pop(0) if planned and planned[0] in choices else dice.choice(choices)
        text.append(chosen)
        guide.push(text[-1:])
