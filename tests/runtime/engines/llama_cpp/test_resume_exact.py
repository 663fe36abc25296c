"""Cut anywhere and taken up by another engine, an answer is the same to the last bit, as long as
the model's logits are: they are made of the tokens alone here, so rounding explains nothing."""

from array import array
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec
import numpy as np
import pytest

from runtime.config.engine import EngineConfig
from runtime.engines.base import SequenceOutput
from runtime.engines.llama_cpp.engine import LlamaCppEngine
from runtime.engines.llama_cpp.sequence import Sequence
from runtime.messages.request import Request, RequestOutput
from runtime.messages.structured_output import StructuredOutput
from runtime.messages.wire import StepOutput
from runtime.tokenizers.load import load_tokenizer
from runtime.tokenizers.tokenizer import Tokenizer
from runtime.worker.core import EngineCore
from tests.kit.engines import ONE_THREAD, a_request, needs_llama_library

needs_llama_library()

NUM_TOKENS = 40
CONFIG = EngineConfig(
    max_num_seqs=16,
    num_kv_tokens=4096,
    prefix_caching="off",
    llama_cpp=ONE_THREAD,
)
PLAIN = {"prompt_token_ids": [40, 41, 50, 60], "max_tokens": NUM_TOKENS, "ignore_eos": True}
LIST = '{"type": "array", "items": {"type": "integer"}, "minItems": 12}'
CASES: dict[str, dict[str, object]] = {
    "greedy": {"temperature": 0.0},
    "sampled": {"seed": 1},
    "second choice": {"seed": 2},
    "hot": {"seed": 3, "temperature": 2.0},
    "penalties": {"seed": 4, "presence_penalty": 1.0, "frequency_penalty": 0.7},
    "repetition": {"seed": 5, "repetition_penalty": 1.4},
    "min_p": {"seed": 6, "min_p": 0.1},
    "top_k": {"seed": 7, "top_k": 5},
    "top_p": {"seed": 8, "top_p": 0.7},
    "bias": {"seed": 9, "logit_bias": {40: 9.0, 41: 8.5, 42: -100.0}},
    "logprobs": {"seed": 10, "logprobs": 3},
    "min_tokens": {"seed": 11, "min_tokens": 25, "stop": ("e", "a"), "ignore_eos": False},
    "stop": {"seed": 12, "stop": ("zzz", "\u00e9\u00e9", "q\n\n")},
    "json": {"seed": 13, "structured_output": StructuredOutput(json=LIST)},
    "regex": {"seed": 14, "structured_output": StructuredOutput(regex="([a-z]{3} ){12}")},
}
"""Sixteen at most: they run in one batch."""


class LogitsOfTokens(LlamaCppEngine):
    """Everything is llama.cpp's but the logits."""

    def _advance(self, sequence: Sequence, row: int) -> SequenceOutput:
        logits = logits_after(sequence.token_ids, self._model.num_vocab)
        self._model.logits = lambda _row: logits  # type: ignore[method-assign]
        return super()._advance(sequence, row)


def logits_after(token_ids: list[int], num_vocab: int) -> np.ndarray:
    generator = np.random.default_rng(crc32(array("q", token_ids).tobytes()))
    return generator.normal(scale=3.0, size=num_vocab).astype(np.float32)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_path: Path) -> Tokenizer:
    return load_tokenizer(str(tiny_model_path))


@pytest.fixture(scope="module")
def engine(tiny_model_path: Path, tokenizer: Tokenizer) -> Iterator[LogitsOfTokens]:
    engine = LogitsOfTokens(CONFIG, str(tiny_model_path), tokenizer)
    yield engine
    engine.close()


def requests() -> dict[str, Request]:
    return {name: a_request(name, **{**PLAIN, **fields}) for name, fields in CASES.items()}


def run(
    engine: LogitsOfTokens, tokenizer: Tokenizer, wanted: list[Request]
) -> dict[str, list[RequestOutput]]:
    """One delta for each token, from a core that knows nothing of earlier ones."""
    core = EngineCore(engine, tokenizer, CONFIG)
    for request in wanted:
        core.submit(request)
    deltas: dict[str, list[RequestOutput]] = defaultdict(list)
    while core.has_work or core.is_preparing:
        core.step()
        for message in core.take_messages():
            assert isinstance(message, StepOutput), message
            for output in message.outputs:
                deltas[output.request_id].append(
                    msgspec.structs.replace(output, seconds_queued=None)
                )
    return deltas


@pytest.mark.slow
def test_an_answer_that_is_cut_at_any_token_goes_on_as_it_was(
    engine: LogitsOfTokens, tokenizer: Tokenizer
):
    whole = run(engine, tokenizer, list(requests().values()))
    assert whole.keys() == CASES.keys()
    assert all(len(deltas) > 20 for deltas in whole.values())
    for num_told in range(1, NUM_TOKENS):
        cut = {
            name: msgspec.structs.replace(
                request,
                output_token_ids=[t for delta in whole[name][:num_told] for t in delta.token_ids],
            )
            for name, request in requests().items()
            if num_told < len(whole[name])
        }

        rest = run(engine, tokenizer, list(cut.values()))

        for name in cut:
            assert rest[name] == whole[name][num_told:], (name, num_told)
