"""What the tests of the double share: a release's package, and ways to read its answers."""

import asyncio
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.kit.tensorrt_double import double_of

NAME = "tensorrt_llm"
EOS, VOCAB = 2, 512
PROMPT = [11, 12, 13]
WAIT = 10.0
END_OF_TEXT = 256
"""The end token of the tokenizer whose other tokens are bytes."""


class Double:
    """One release's package and its table of facts."""

    def __init__(self, release: str) -> None:
        package = sys.modules[NAME]
        self.release = release
        self.version = package.__version__
        self.LLM = package.LLM
        self.SamplingParams = package.SamplingParams
        self.llmapi = importlib.import_module(f"{NAME}.llmapi")
        self.llm_args = importlib.import_module(f"{NAME}.llmapi.llm_args")
        self.facts = importlib.import_module(f"{NAME}.facts")
        self.token_maker = importlib.import_module(f"{NAME}.token_maker")
        self.plan = importlib.import_module(f"{NAME}.plan")
        self.RequestError = self.llmapi.RequestError

    def fact(self, name: str) -> Any:
        return self.facts.fact(name)

    def params(self, **fields: Any) -> Any:
        fields = {"end_id": EOS, "detokenize": False, **fields}
        return self.SamplingParams(**fields)

    def answer(self, prompt: list[int], num_tokens: int, **plan: Any) -> list[int]:
        maker = self.token_maker.TokenMaker(self.plan.Plan(**plan), VOCAB, EOS)
        return maker.answer(prompt, num_tokens)


@contextmanager
def loaded(release: str) -> Iterator[Double]:
    """A release's package under its name; whatever had the name before has it again afterwards."""
    with double_of(release):
        importlib.import_module(NAME)
        yield Double(release)


Start = Callable[..., Any]


def ids(text: str) -> list[int]:
    """The bytes of ASCII text as the test's tokenizer numbers them."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [alphabet.index(letter) for letter in text.replace(" ", "Ġ")]


async def stream(result: Any) -> list[list[int]]:
    """What each response showed of the first output."""
    return [list(item.outputs[0].token_ids) async for item in result]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in a thread
            await asyncio.sleep(0.001)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


FIELD_OWNERS = {
    "TorchLlmArgs": lambda d: d.llm_args.TorchLlmArgs,
    "KvCacheConfig": lambda d: d.llmapi.KvCacheConfig,
    "SchedulerConfig": lambda d: d.llmapi.SchedulerConfig,
    "CudaGraphConfig": lambda d: d.llmapi.CudaGraphConfig,
    "NGramDecodingConfig": lambda d: d.llmapi.NGramDecodingConfig,
}
