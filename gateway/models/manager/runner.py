"""What loads a model and ends it again: an engine's process, and the tokenizer beside it."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from structlog.contextvars import bound_contextvars

from gateway.bounds.freed_memory import give_freed_memory_back
from gateway.models.manager.spec import ModelSpec
from gateway.models.served_model import ServedModel
from runtime.client.engine_client import EngineClient
from runtime.client.handle import EngineState
from runtime.errors import LockgateError
from runtime.supervisor.supervisor import Supervisor

NOT_LOADED = "The model is not loaded."


class LoadFailed(LockgateError):
    """The model could not be loaded. The message says why, in sentences."""


class Runner(Protocol):
    """Loads one model, any number of times. It belongs to one event loop."""

    async def start(self, *, gives_up: bool) -> None:
        """Begins to load the model. Without `gives_up` a load that fails is tried again for as long
        as the model is not stopped."""

    async def loaded(self) -> None:
        """Waits until requests can be served. Raises LoadFailed, also if the model is stopped."""

    async def stop(self, reason: str, *, has_failed: bool = False) -> None:
        """Ends the engine, and waits until its process is gone. Whoever still waits for an answer
        gets the reason. The engine's state is "failed" then, or else "unloaded"."""

    on_refused: Callable[[str], object] | None
    """Told why the settings of `replace` are given up again."""

    def restart(self) -> None:
        """Replaces the engine's process; requests in flight continue on the next."""

    def use(self, spec: ModelSpec) -> None:
        """Has these settings from the next process on, at the latest."""

    def replace(self, spec: ModelSpec) -> None:
        """Replaces the engine's process by one with these settings. If it cannot load with them,
        the one after it has the former ones."""

    def abandon(self) -> None:
        """Kills the engine without waiting, from any thread, as the last thing of all."""

    @property
    def pid(self) -> int:
        """The engine's process; 0 if none is known to run."""
        ...


NewSupervisor = Callable[[ModelSpec, EngineClient, bool], Supervisor]
"""Makes the supervisor of a model's next engine; the last argument says whether it gives up."""


class EngineRunner:
    """The runner of a model whose engine is a process of this machine. Every load has a supervisor
    of its own, and so its own restarts; the client and what it has counted stay."""

    def __init__(
        self,
        spec: ModelSpec,
        model: ServedModel,
        client: EngineClient,
        new_supervisor: NewSupervisor,
    ) -> None:
        self._spec = spec
        self._model = model
        self._client = client
        self._new_supervisor = new_supervisor
        self._supervisor: Supervisor | None = None
        self.on_refused: Callable[[str], object] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        client.on_state = self._changed.set
        if spec.load != "start":
            client.lost("unloaded", NOT_LOADED)

    @property
    def pid(self) -> int:
        info = self._client.info
        return info.pid if info is not None and self._client.state == "ready" else 0

    async def start(self, *, gives_up: bool) -> None:
        self._client.lost("starting", "The engine is starting.")
        self._supervisor = self._new_supervisor(self._spec, self._client, gives_up)
        self._supervisor.on_refused = self.on_refused
        with bound_contextvars(model=self._spec.name):  # in the log lines of both tasks
            await self._supervisor.start()
            self._reading = asyncio.create_task(self._model.load(self._spec.path))
        self._reading.add_done_callback(lambda _: self._changed.set())

    async def loaded(self) -> None:
        while not self._model.is_ready:
            if self._supervisor is None:
                raise LoadFailed("The model was unloaded while it loaded.")
            if self._model.load_error or self._client.state == "failed":
                raise LoadFailed(self._model.state_reason)
            self._changed.clear()
            await self._changed.wait()

    async def stop(self, reason: str, *, has_failed: bool = False) -> None:
        state: EngineState = "failed" if has_failed else "unloaded"
        supervisor, self._supervisor = self._supervisor, None
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        if supervisor is None:
            self._client.lost(state, reason)
        else:
            await supervisor.stop(state, reason)
        self._model.unload()
        self._changed.set()
        if supervisor is not None:
            await asyncio.sleep(0)  # what has just been awaited holds what was read
            await asyncio.to_thread(give_freed_memory_back)

    def restart(self) -> None:
        if self._supervisor is not None:
            self._supervisor.restart()

    def use(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._client.max_num_waiting_tokens = spec.engine.max_num_waiting_tokens
        if self._supervisor is not None:
            self._supervisor.use(spec.engine)

    def replace(self, spec: ModelSpec) -> None:
        self._spec = spec
        if self._supervisor is not None:
            self._supervisor.restart_with(spec.engine)

    def abandon(self) -> None:
        if (supervisor := self._supervisor) is not None:
            supervisor.abandon()
