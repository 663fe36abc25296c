"""The state of one model among several."""

import asyncio
from typing import Literal

from msgspec import Struct, structs

from gateway.models.manager.runner import Runner
from gateway.models.manager.spec import ModelSpec
from gateway.models.pulls.pull import Pull
from gateway.models.served_model import ServedModel
from gateway.settings.schema import ModelSettings
from runtime.config.engine import EngineConfig
from runtime.errors import LockgateError

ModelState = Literal["unloaded", "loading", "ready", "draining", "failed"]


class ModelReport(Struct, frozen=True, kw_only=True):
    """One model for operators. `reason` says why it is not ready, empty when it is.

    `memory_bytes` is what the model needs in main memory: measured if it is loaded, otherwise what
    it needed last, 0 if that is not known. `num_requests` hold the model and `num_waiting` wait
    until it is loaded. `idle_seconds` have passed since the last of them, null before the first.
    `num_loads` counts how often it was loaded.
    """

    name: str
    state: ModelState
    reason: str = ""
    load: str
    memory_bytes: int
    num_requests: int
    num_waiting: int
    idle_seconds: float | None
    num_loads: int


class Slot:
    """One model: its settings, what loads it, who uses it. The manager alone changes it.

    `phase` is "loaded" from when requests may use the model: its engine may restart meanwhile.
    `outcome` is what those wait for who want the model loaded; None while nobody does.
    `memory_bytes` is what it was seen to need, 0 before. `retry_time` is when a model that failed
    may be tried again, on the manager's clock.
    """

    def __init__(self, spec: ModelSpec, model: ServedModel, runner: Runner) -> None:
        self.spec = spec
        self.model = model
        self.runner = runner
        self.phase: Literal["unloaded", "queued", "loading", "loaded", "draining"] = "unloaded"
        self.outcome: asyncio.Future[None] | None = None
        self.loading: asyncio.Task[None] | None = None
        self.unloading: asyncio.Task[None] | None = None
        self.pull: Pull | None = None
        """The download of its file, while it runs."""
        self.failure = ""
        self.retry_time = 0.0
        self.is_forced = False
        """Whether it is unloaded although requests hold it."""
        self.is_wanted = False
        """Whether an admin wants it loaded, although no request may wait for it."""
        self.freed = asyncio.Event()
        """Set when the last user has left."""
        self.num_users = 0
        self.num_waiting = 0
        self.num_loads = 0
        self.last_used: float | None = None
        self.loaded_time = 0.0
        self.memory_bytes = 0

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def holds_memory(self) -> bool:
        return self.phase in ("loading", "loaded", "draining")

    @property
    def needed_bytes(self) -> int:
        """What it is known to need: by its settings, or as it was seen. 0 if that is not known."""
        return self.spec.memory_bytes or self.memory_bytes

    @property
    def is_idle(self) -> bool:
        """Whether it can be unloaded without taking it from anybody."""
        return self.phase == "loaded" and not self.num_users and not self.num_waiting

    @property
    def is_unpulled(self) -> bool:
        """Whether it has not been downloaded, and nobody waits for that."""
        is_absent = self.spec.may_be_pulled and not self.spec.path
        return is_absent and self.phase == "unloaded" and not self.num_waiting

    @property
    def is_starting(self) -> bool:
        """Whether its first engine, or its tokenizer, is still being loaded."""
        is_waiting = not self.model.has_tokenizer and not self.model.load_error
        return self.model.engine.state == "starting" or is_waiting

    @property
    def max_waiting(self) -> int:
        """How many requests may wait until it is loaded: those that its engine would take."""
        return self.spec.engine.max_num_seqs + self.spec.engine.max_num_waiting

    def use(self, model: ModelSettings, engine: EngineConfig) -> None:
        """Has these settings from the next request on."""
        self.spec = structs.replace(self.spec, model=model, engine=engine)
        self.model.use(model)

    def settle(self, error: LockgateError | None = None) -> None:
        """Tells everybody who waits that the model is loaded, or why it is not."""
        outcome, self.outcome, self.is_wanted = self.outcome, None, False
        if outcome is None or outcome.done():
            return
        if error is None:
            outcome.set_result(None)
        else:
            outcome.set_exception(error)
            outcome.exception()  # perhaps nobody waits

    @property
    def state(self) -> ModelState:
        """In the words of the API."""
        match self.phase:
            case "loaded" if self.model.is_ready:
                return "ready"
            case "loaded" if self.model.engine.state == "failed":
                return "failed"
            case "loaded" | "queued" | "loading":
                return "loading"
            case "draining":
                return "draining"
        return "failed" if self.failure else "unloaded"
