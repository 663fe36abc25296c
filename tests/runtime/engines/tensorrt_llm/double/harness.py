"""What the tests of the double share: a release's package, and ways to read its answers."""

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.kit.tensorrt_double import double_of

NAME = "tensorrt_llm"
EOS, VOCAB = 2, 512
PROMPT = [11, 12, 13]
WAIT = 10.0
END_OF_TEXT = 256
"""The end token of the tokenizer whose other tokens are bytes."""

Start = Callable[..., Any]


class Double:
    """One release's package and its table of facts."""

    def __init__(self, release: str) -> None:
        package = sys.modules[NAME]
        self.release = release
        self.LLM = package.LLM
        self.SamplingParams = package.SamplingParams
        self.llmapi = importlib.import_module(f"{NAME}.llmapi")
        self.executor = importlib.import_module(f"{NAME}.executor")
        self.facts = importlib.import_module(f"{NAME}.facts")
        self.token_maker = importlib.import_module(f"{NAME}.token_maker")
        self.plan = importlib.import_module(f"{NAME}.plan")
        self.RequestError = self.llmapi.RequestError

    def has(self, module: str) -> bool:
        """Whether a module of the package can be imported."""
        try:
            importlib.import_module(f"{NAME}.{module}")
        except ModuleNotFoundError:
            return False
        return True

    def params(self, **fields: Any) -> Any:
        fields = {"end_id": EOS, "detokenize": False, **fields}
        return self.SamplingParams(**fields)

    def answer(self, prompt: list[int], num_tokens: int, **plan: Any) -> list[int]:
        maker = self.token_maker.TokenMaker(self.plan.Plan(**plan), VOCAB, EOS)
        return maker.answer(prompt, num_tokens)

    async def output(self, llm: Any, prompt: list[int] = PROMPT, **fields: Any) -> Any:
        """What is said to a prompt under these parameters."""
        return (await llm.generate_async(prompt, self.params(**fields))).outputs[0]

    async def tokens(self, llm: Any, prompt: list[int] = PROMPT, **fields: Any) -> list[int]:
        return list((await self.output(llm, prompt, **fields)).token_ids)


Probe = Callable[[Double, Start], Awaitable[Any]]
"""Tries a behaviour and returns what it has seen."""


@contextmanager
def loaded(release: str) -> Iterator[Double]:
    """A release's package under its name; whatever had the name before has it again afterwards."""
    with double_of(release):
        importlib.import_module(NAME)
        yield Double(release)


def together(llm: Any, *asked: tuple[list[int], Any]) -> list[Any]:
    """Requests that the worker gets at one time. In turn, the first could be over before the
    next one comes."""
    with llm._executor.together():
        return [llm.generate_async(prompt, params) for prompt, params in asked]


async def tokens_together(llm: Any, *asked: tuple[list[int], Any]) -> list[list[int]]:
    results = await asyncio.gather(*(result.aresult() for result in together(llm, *asked)))
    return [list(result.outputs[0].token_ids) for result in results]


def error_of(call: Callable[[], Any]) -> tuple[str, str]:
    """The class and the text of the exception that a call raises; two empty ones for none."""
    try:
        call()
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


async def awaited_error(awaitable: Awaitable[Any]) -> tuple[str, str]:
    """The same of what is awaited."""
    try:
        await awaitable
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


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
