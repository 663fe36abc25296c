"""Loads models when they are wanted, and unloads those that nobody uses when memory is."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import structlog
from msgspec import structs

from gateway.models.manager.accounts import MemoryAccounts
from gateway.models.manager.files import find_file, has_file, wanted_of
from gateway.models.manager.lease import Lease
from gateway.models.manager.memory import Memory
from gateway.models.manager.runner import NOT_LOADED, LoadFailed
from gateway.models.manager.slot import ModelReport, Slot
from gateway.models.manager.spec import ModelSpec
from gateway.models.pulls.pulls import Pulls
from gateway.settings.schema import LoadingSettings, ModelSettings
from runtime.config.engine import EngineConfig
from runtime.errors import (
    DeadlineExceeded,
    EngineOverloaded,
    EngineUnavailable,
    LockgateError,
    SetupError,
)

log = structlog.get_logger(__name__)

RETRY_SECONDS = 5.0
"""`retry_after` of a request that could not wait for its model."""

MEASURE_SECONDS = 1.0
"""How often the processes of the engines are looked at for reports."""

MEASURE_PATIENCE = 0.05
"""How many seconds a report waits for that."""

POLL_SECONDS = 1.0
"""How often the memory is looked at that other programs may have given back."""


class ModelManager:
    """The models of one server, loaded or not. It lives on one event loop.

    One model at a time finds its place in the memory, in the order in which they were wanted; it
    then loads while the next one looks for its own. The least recently used of those that nobody
    holds is unloaded for it. Where all are held for longer than `drain_after`, the one that was
    loaded first takes no new requests until its place has been given away. So every model gets its
    turn. While `is_ending` says that the server ends, no load begins that no request waits for.
    """

    def __init__(
        self,
        slots: Iterable[Slot],
        memory: Memory,
        settings: LoadingSettings,
        clock: Callable[[], float] = time.monotonic,
        *,
        is_ending: Callable[[], bool] = lambda: False,
    ) -> None:
        self._slots = {slot.name: slot for slot in slots}
        self._accounts = MemoryAccounts(self._slots, memory, settings.max_bytes)
        self._settings = settings
        self._clock = clock
        self.pulls = Pulls()
        """Downloads of models, for those that are loaded and for admins."""
        self._is_ending = is_ending
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()
        self._is_over: LockgateError | None = None
        self._next_measure = -math.inf
        self._measuring: asyncio.Task[None] | None = None
        self._is_tight = False
        self._shrinking: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots.values())

    def __contains__(self, name: str) -> bool:
        return name in self._slots

    def spec(self, name: str) -> ModelSpec:
        """A model's settings as they are now."""
        return self._slots[name].spec

    def add(self, slot: Slot) -> None:
        """Adds a model that nobody has named before."""
        self._slots[slot.name] = slot

    def forget_unpulled(self) -> list[str]:
        """Forgets the models that were to be pulled, are not there, and are not waited for. Returns
        their names."""
        oldest = self._clock() - self._settings.retry_seconds
        gone = [slot.name for slot in self if slot.is_unpulled and (slot.last_used or 0) < oldest]
        for name in gone:
            del self._slots[name]
        return gone

    async def start(self) -> None:
        """Begins to load the models of `load = "start"` that fit. Returns at once: their loads are
        tried again for as long as they fail."""
        for slot in self._slots.values():
            if slot.spec.load != "start":
                continue
            if await self._accounts.missing(slot) > 0 and any(each.holds_memory for each in self):
                log.warning("model_not_loaded_at_start", model=slot.name, reason="no memory left")
                await slot.runner.stop(NOT_LOADED)
            else:
                slot.phase = "loaded"
                slot.num_loads += 1
                await slot.runner.start(gives_up=False)

    async def stop(self) -> None:
        """Ends all engines, and waits until they are gone."""
        self.cut_off(EngineUnavailable("The server has stopped.", retry_after=RETRY_SECONDS))
        own = [task for slot in self for task in (slot.loading, slot.unloading)]
        tasks = [task for task in (*own, self._shrinking, self._measuring) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(*(slot.runner.stop("The server has stopped.") for slot in self))

    def abandon(self) -> None:
        """Kills all engines without waiting, from any thread, as the last thing of all."""
        for slot in list(self._slots.values()):
            slot.runner.abandon()

    def cut_off(self, error: LockgateError) -> None:
        """Loads nothing any more: who waits gets this error, and so does everything in flight."""
        self._is_over = error
        self.pulls.stop()
        for slot in self:
            slot.settle(error)
            slot.model.engine.abort_all(error)

    def hold(self, name: str) -> Lease:
        """A lease on a model, which may still have to be loaded: see `Lease.loaded`."""
        slot = self._slots[name]
        slot.last_used = self._clock()
        lease = Lease(slot, self._wait, self._given_back)
        if slot.phase == "loaded":
            lease.enter()
        return lease

    async def acquire(self, name: str, deadline: float = math.inf) -> Lease:
        """A lease on a model that is loaded by then. Raises what `Lease.loaded` raises."""
        lease = self.hold(name)
        await lease.loaded(deadline)
        return lease

    def load(self, name: str) -> None:
        """Begins to load a model, whatever its settings say of when, and also if it has just
        failed. Returns at once."""
        slot = self._slots[name]
        if slot.phase != "loaded":
            slot.retry_time = 0.0
            self._want(slot)
            slot.is_wanted = True

    def unload(self, name: str, *, force: bool = False) -> "asyncio.Task[None]":
        """Begins to unload a model, and returns what ends when that is done. Requests that hold it
        are done first, with `force` they fail. Who waits until it is loaded is told so."""
        slot = self._slots[name]
        slot.settle(_unloaded(slot))
        if slot.phase not in ("loaded", "draining"):
            return asyncio.create_task(self._end_loading(slot))
        unloading = self._begin_unloading(slot)
        if force:
            slot.is_forced = True
            slot.freed.set()
        return unloading

    def restart(self, name: str) -> None:
        """Replaces a model's engine process, or begins to load it. Requests in flight continue."""
        slot = self._slots[name]
        if slot.phase in ("loading", "loaded"):
            slot.runner.restart()
        else:
            self.load(name)

    def use(self, name: str, model: ModelSettings, engine: EngineConfig) -> None:
        """Has a model's next requests answered by these settings, and its engine's next process run
        by them."""
        slot = self._slots[name]
        slot.use(model, engine)
        slot.runner.use(slot.spec)

    def replace(self, name: str, model: ModelSettings, engine: EngineConfig) -> bool:
        """The same, with a new process at once if the model is loaded; returns whether it is. If
        the process cannot load with these settings, the one after it has the former ones."""
        slot = self._slots[name]
        slot.use(model, engine)
        if slot.phase not in ("loading", "loaded"):
            slot.runner.use(slot.spec)
            return False
        slot.runner.replace(slot.spec)
        return True

    def states(self) -> Mapping[str, ModelReport]:
        """Every model as it is now."""
        return {slot.name: self.report(slot.name) for slot in self}

    def report(self, name: str) -> ModelReport:
        """One model as it is now. Its memory is what was last measured."""
        slot, now = self._slots[name], self._clock()
        state = slot.state
        return ModelReport(
            name=name,
            state=state,
            reason=_reason(slot, state),
            load=slot.spec.load,
            memory_bytes=slot.memory_bytes,
            num_requests=slot.num_users,
            num_waiting=slot.num_waiting,
            idle_seconds=None if slot.last_used is None else round(now - slot.last_used, 3),
            num_loads=slot.num_loads,
        )

    async def measure(self) -> None:
        """Looks what the loaded models use, at most every `MEASURE_SECONDS`. Does not wait long: on
        a busy machine the reports then have what was seen before."""
        if self._measuring is None and self._clock() >= self._next_measure:
            self._next_measure = self._clock() + MEASURE_SECONDS
            self._measuring = asyncio.create_task(self._accounts.measure(), name="measure")
            self._measuring.add_done_callback(self._note_measured)
        if self._measuring is not None:
            await asyncio.wait([self._measuring], timeout=MEASURE_PATIENCE)

    def _note_measured(self, task: "asyncio.Task[None]") -> None:
        self._measuring = None
        _log_failure(task)

    @property
    def starting(self) -> list[str]:
        """The names of the models that are loaded with the server, and are not there yet."""
        return [slot.name for slot in self if slot.phase == "loaded" and slot.is_starting]

    def is_available(self, name: str) -> bool:
        """Whether a request for this model would be taken now: it is ready, or it would be loaded
        for the request."""
        slot = self._slots[name]
        return slot.model.is_ready if slot.phase == "loaded" else self.refusal(name) is None

    def refusal(self, name: str) -> LockgateError | None:
        """Why a request for this model would not wait for it; None if it would, or need not."""
        slot = self._slots[name]
        if slot.phase == "loaded":
            return None
        if self._is_over is not None:
            return self._is_over
        if slot.phase == "unloaded" and slot.spec.load == "never" and not slot.is_wanted:
            return EngineUnavailable(
                f"The model `{name}` is not loaded; an admin has to load it.",
                retry_after=RETRY_SECONDS,
            )
        if slot.failure and (left := slot.retry_time - self._clock()) > 0:
            return EngineUnavailable(_failed(slot), retry_after=left)
        if slot.num_waiting >= slot.max_waiting:
            return EngineOverloaded(
                f"The model `{name}` is loading, and {slot.num_waiting} requests wait for it.",
                retry_after=RETRY_SECONDS,
            )
        return None

    async def _wait(self, lease: Lease, deadline: float) -> None:
        slot = self._slots[lease.spec.name]
        while slot.phase != "loaded":
            if error := self.refusal(slot.name):
                raise error
            outcome = self._want(slot)
            slot.num_waiting += 1
            try:
                await self._until(outcome, deadline, slot)
            finally:
                slot.num_waiting -= 1
                self._forget_unwanted(slot)
        lease.enter()

    async def _until(self, outcome: asyncio.Future[None], deadline: float, slot: Slot) -> None:
        seconds = None if deadline == math.inf else max(deadline - self._clock(), 0)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(outcome)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"The model `{slot.name}` was not loaded by the request's deadline."
                f" {self._what_it_waits_for(slot)}",
                retry_after=RETRY_SECONDS,
            ) from error

    def _what_it_waits_for(self, slot: Slot) -> str:
        if slot.phase == "loading" or slot.pull is not None:
            return _reason(slot, slot.state)
        held = [other.name for other in self if other.num_users]
        return f"It waits for memory; models in use: {', '.join(held) or 'none'}."

    def _want(self, slot: Slot) -> "asyncio.Future[None]":
        """What comes of a load that has begun, or begins now."""
        if slot.outcome is None:
            slot.outcome = asyncio.get_running_loop().create_future()
            if slot.loading is None:
                slot.phase = "queued" if slot.phase == "unloaded" else slot.phase
                slot.loading = asyncio.create_task(self._load(slot), name=f"load {slot.name}")
        return slot.outcome

    def _forget_unwanted(self, slot: Slot) -> None:
        """Ends the search for memory when nobody waits any more for what it is for."""
        if slot.phase == "queued" and self._is_unwanted(slot):
            self._tell()

    def _is_unwanted(self, slot: Slot) -> bool:
        is_wanted = slot.num_waiting or (slot.is_wanted and not self._is_ending())
        return slot.outcome is None or not is_wanted

    async def _load(self, slot: Slot) -> None:
        """Loads a model for those who wait for its `outcome`."""
        if slot.unloading is not None:
            await asyncio.wait([slot.unloading])
        slot.phase = "queued"
        try:
            has_file = await self._find_file(slot)
            async with self._turn:
                if not has_file or not await self._make_room(slot):
                    slot.phase, slot.outcome = "unloaded", None
                    return
                slot.phase = "loading"
                await slot.runner.start(gives_up=True)
            await slot.runner.loaded()
            await self._check_measured(slot)
        except LoadFailed as error:
            await self._note_failure(slot, str(error))
        except Exception as error:
            log.exception("model_load_failed_unexpectedly", model=slot.name)
            await self._note_failure(slot, f"{type(error).__name__}: {error}")
        else:
            self._note_loaded(slot)
        finally:
            slot.loading = None
            self._tell()

    async def _find_file(self, slot: Slot) -> bool:
        """Looks for the model's file anew if it was not there, and downloads it if that is allowed.
        False if nobody wants it any more. Raises LoadFailed."""
        if await asyncio.to_thread(has_file, slot.spec):
            return True
        try:
            path = await self._path_of(slot)
        except SetupError as error:
            raise LoadFailed(str(error)) from error
        if path is None:
            return False
        slot.spec = structs.replace(slot.spec, path=path)
        slot.runner.use(slot.spec)
        return True

    async def _path_of(self, slot: Slot) -> str | None:
        try:
            return await asyncio.to_thread(find_file, slot.spec)
        except SetupError:
            if not slot.spec.may_be_pulled:
                raise
        wanted = await asyncio.to_thread(wanted_of, slot.spec)
        with self.pulls.joined(wanted) as slot.pull:
            try:
                while not slot.pull.outcome.done():
                    if self._is_unwanted(slot):
                        return None
                    await asyncio.wait([slot.pull.outcome], timeout=POLL_SECONDS)
                return str(slot.pull.outcome.result())
            finally:
                slot.pull = None

    def _note_loaded(self, slot: Slot) -> None:
        slot.phase, slot.failure = "loaded", ""
        slot.num_loads += 1
        slot.loaded_time = self._clock()
        log.info("model_loaded", model=slot.name)
        slot.settle()
        self._watch_idleness(slot)

    async def _note_failure(self, slot: Slot, reason: str) -> None:
        await slot.runner.stop(reason, has_failed=True)
        slot.phase, slot.failure = "unloaded", reason
        slot.retry_time = self._clock() + self._settings.retry_seconds
        log.error("model_load_failed", model=slot.name, reason=reason)
        slot.settle(EngineUnavailable(_failed(slot), retry_after=self._settings.retry_seconds))

    async def _end_loading(self, slot: Slot) -> None:
        loading = slot.loading
        self._tell()  # one that looks for memory sees that nobody wants it
        if slot.phase == "loading":
            await slot.runner.stop("The model was unloaded while it loaded.")
        if loading is not None:
            await asyncio.wait([loading])
        slot.failure = ""
        if slot.phase == "unloaded":
            await slot.runner.stop(NOT_LOADED)

    async def _make_room(self, slot: Slot) -> bool:
        """Unloads others until the model fits. False if nobody wants it any more. Raises LoadFailed
        if it never fits."""
        patience = self._clock() + self._settings.drain_after
        while True:
            self._news.clear()
            if self._is_unwanted(slot):
                return False
            if await self._accounts.missing(slot) <= 0 or self._accounts.may_try(slot):
                return True
            if victim := self._idle_one():
                log.info("model_makes_room", model=victim.name, wanted=slot.name)
                await asyncio.shield(self._begin_unloading(victim))
                continue
            left = patience - self._clock()
            if left <= 0 and (victim := self._held_one()):
                log.info("model_drains_for_room", model=victim.name, wanted=slot.name)
                self._begin_unloading(victim)
            await self._hear(min(left, POLL_SECONDS) if left > 0 else POLL_SECONDS)

    async def _check_measured(self, slot: Slot) -> None:
        """What was an estimate is known now: others may have to go after all."""
        await self._accounts.measure()
        self._accounts.check_limit(slot)
        await self._shrink()

    async def _shrink(self) -> None:
        """Unloads those that nobody holds while all together need more than there is."""
        while (is_tight := await self._accounts.excess() > 0) and (victim := self._idle_one()):
            log.info("model_makes_room", model=victim.name, wanted="")
            await asyncio.shield(self._begin_unloading(victim))
        self._is_tight = is_tight

    async def _hear(self, seconds: float) -> None:
        """Waits for news of a model, or for other programs to give memory back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def _tell(self) -> None:
        self._news.set()

    def _idle_one(self) -> Slot | None:
        idle = [slot for slot in self if slot.is_idle]
        return min(idle, key=lambda slot: slot.last_used or 0.0, default=None)

    def _held_one(self) -> Slot | None:
        """The one to drain; None while one drains already."""
        if any(slot.phase == "draining" for slot in self):
            return None
        held = [slot for slot in self if slot.phase == "loaded"]
        return min(held, key=lambda slot: slot.loaded_time, default=None)

    def _begin_unloading(self, slot: Slot) -> "asyncio.Task[None]":
        if slot.unloading is None:
            slot.phase = "draining"
            slot.unloading = asyncio.create_task(self._unload(slot), name=f"unload {slot.name}")
        return slot.unloading

    async def _unload(self, slot: Slot) -> None:
        """Unloads a model when nobody holds it any more."""
        try:
            while slot.num_users and not slot.is_forced:
                slot.freed.clear()
                await slot.freed.wait()
            slot.model.engine.abort_all(_unloaded(slot))
            await slot.runner.stop(NOT_LOADED)
            slot.phase, slot.is_forced = "unloaded", False
            log.info("model_unloaded", model=slot.name)
        finally:
            slot.unloading = None
            self._tell()

    def _given_back(self, slot: Slot) -> None:
        slot.last_used = self._clock()
        self._tell()
        if not slot.num_users:
            slot.freed.set()
            self._watch_idleness(slot)
            if self._is_tight and self._shrinking is None:
                self._shrinking = asyncio.create_task(self._shrink(), name="shrink")
                self._shrinking.add_done_callback(self._note_shrunk)

    def _note_shrunk(self, task: "asyncio.Task[None]") -> None:
        self._shrinking = None
        _log_failure(task)

    def _watch_idleness(self, slot: Slot) -> None:
        if slot.spec.idle_seconds:
            asyncio.get_running_loop().call_later(
                slot.spec.idle_seconds, self._unload_if_idle, slot, slot.last_used
            )

    def _unload_if_idle(self, slot: Slot, last_used: float | None) -> None:
        if slot.is_idle and slot.last_used == last_used and self._is_over is None:
            log.info("model_idle", model=slot.name, seconds=slot.spec.idle_seconds)
            self._begin_unloading(slot)


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("memory_not_looked_at", exc_info=error)


def _failed(slot: Slot) -> str:
    """For clients: the reason may name files of the server."""
    return f"The model `{slot.name}` could not be loaded; the server's log says why."


def _unloaded(slot: Slot) -> EngineUnavailable:
    return EngineUnavailable(f"The model `{slot.name}` was unloaded.", retry_after=RETRY_SECONDS)


def _reason(slot: Slot, state: str) -> str:
    match state:
        case "failed" if slot.failure:
            return slot.failure
        case "unloaded":
            return ""
        case "draining":
            what = "its request is" if slot.num_users == 1 else f"{slot.num_users} requests are"
            return f"It is unloaded when {what} done."
    if slot.pull is not None:
        return f"It is downloaded: {slot.pull.progress.text}."
    if slot.phase == "queued":
        return "It waits for memory."
    return slot.model.state_reason
