"""What the tests of the engine share: requests, steps, and what the double says."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from runtime.engines.base import Engine, SequenceOutput
from runtime.messages.request import SamplingParams
from tests.kit.engines import a_request
from tests.kit.models.tensorrt_model import EOS_TOKEN_ID, VOCAB_SIZE

PLAIN: dict[str, Any] = {"script": list(range(97, 123))}

Make = Callable[..., Engine]

request = partial(a_request, prompt_token_ids=[1, 2, 3], temperature=0.0)

only = pytest.mark.parametrize
"""`only("release", ["1.2"], indirect=True)` runs a test against one release."""


def steps(engine: Engine) -> Iterator[list[SequenceOutput]]:
    """Steps until nothing runs or nothing more can come."""
    end = time.monotonic() + 20
    while engine.num_running:
        assert time.monotonic() < end, "the engine does not come to an end"
        yield list(engine.step())


def expected(plan: dict[str, Any], prompt: list[int], max_tokens: int) -> list[int]:
    """What the double says to a prompt when it is greedy."""
    from tensorrt_llm.plan import Plan
    from tensorrt_llm.token_maker import TokenMaker

    maker = TokenMaker(Plan(**plan), VOCAB_SIZE, EOS_TOKEN_ID)
    cursor = maker.read(prompt)
    tokens: list[int] = []
    while len(tokens) < max_tokens and tokens[-1:] != [EOS_TOKEN_ID]:
        tokens.append(maker.prefers(cursor, len(prompt) + len(tokens)))
        maker.push(cursor, tokens[-1])
    return tokens


def penalised(
    prompt: list[int], max_tokens: int, params: SamplingParams, *, num_unseen: int = 0
) -> list[int]:
    """The greedy answer under penalties, from the double's logits. The penalties do not know the
    newest `num_unseen` tokens yet."""
    from tensorrt_llm.plan import Plan
    from tensorrt_llm.token_maker import TokenMaker

    maker = TokenMaker(Plan(**PLAIN), VOCAB_SIZE, EOS_TOKEN_ID)
    cursor = maker.read(prompt)
    tokens: list[int] = []
    while len(tokens) < max_tokens:
        logits = maker.logits(maker.candidates(cursor, len(prompt) + len(tokens)))
        known = tokens[: max(len(tokens) - num_unseen, 0)]
        seen = sorted({*prompt, *known})
        factor = np.where(
            logits[seen] > 0, 1 / params.repetition_penalty, params.repetition_penalty
        )
        logits[seen] *= factor
        for token, count in Counter(known).items():
            logits[token] -= params.presence_penalty + params.frequency_penalty * count
        tokens.append(int(logits.argmax()))
        maker.push(cursor, tokens[-1])
    return tokens
