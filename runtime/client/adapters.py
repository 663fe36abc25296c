"""LoRA adapters that are loaded and unloaded while the engine serves."""

import asyncio
from collections.abc import Callable

import structlog

from runtime.errors import EngineUnavailable, InvalidRequest
from runtime.messages.wire import AdapterAnswer, LoadAdapter, ToEngine, UnloadAdapter

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 5.0


class Adapters:
    """What was loaded while the server runs, so that the next engine gets it too. Single-threaded:
    it lives on one event loop. `is_used` says whether a request in flight needs an adapter."""

    def __init__(self, is_used: Callable[[str], bool]) -> None:
        self._is_used = is_used
        self._send: Callable[[ToEngine], None] | None = None
        self._loaded: dict[str, LoadAdapter] = {}
        self._leaving: set[str] = set()
        self._answers: dict[str, asyncio.Future[str]] = {}

    def connected(self, send: Callable[[ToEngine], None]) -> None:
        """An engine is ready: it gets all adapters before any request."""
        self._send = send
        for message in self._loaded.values():
            send(message)

    def lost(self, reason: str) -> None:
        """The engine is gone."""
        self._send = None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(EngineUnavailable(reason, retry_after=_RETRY_SECONDS))

    async def load(self, name: str, path: str, scale: float) -> None:
        """Load an adapter. Raises InvalidRequest, which says why the engine cannot, and
        EngineUnavailable."""
        if name in self._answers or name in self._leaving:
            doing = "loaded at this moment" if name in self._answers else "still used by requests"
            raise InvalidRequest(
                f"The adapter `{name}` is {doing}. Try again later, or choose another name.",
                param="lora_name",
            )
        if self._send is None:
            raise EngineUnavailable("The engine is not ready.", retry_after=_RETRY_SECONDS)
        message = LoadAdapter(name, path, scale)
        answer = self._answers[name] = asyncio.get_running_loop().create_future()
        self._send(message)
        try:
            problem = await answer
        finally:
            del self._answers[name]
        if problem:
            raise InvalidRequest(problem, param="lora_path")
        self._loaded[name] = message

    def answered(self, answer: AdapterAnswer) -> None:
        """The engine has loaded an adapter, or cannot."""
        waiting = self._answers.get(answer.name)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.problem)
        elif answer.problem:
            log.error("adapter_not_loaded", adapter=answer.name, reason=answer.problem)
        elif answer.name not in self._loaded and self._send is not None:
            self._send(UnloadAdapter(answer.name))  # who asked for it has left

    def unload(self, name: str) -> None:
        """Free an adapter as soon as no request needs it. No new requests for it may come."""
        self._leaving.add(name)
        self.settle()

    def settle(self) -> None:
        """Requests have ended: free what they were the last to need."""
        for name in [each for each in self._leaving if not self._is_used(each)]:
            self._leaving.remove(name)
            self._loaded.pop(name, None)
            if self._send is not None:
                self._send(UnloadAdapter(name))
