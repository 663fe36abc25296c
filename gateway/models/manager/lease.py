"""A request's hold on a model."""

from collections.abc import Awaitable, Callable

from gateway.models.manager.slot import Slot
from gateway.models.manager.spec import ModelSpec
from gateway.models.served_model import ServedModel


class Lease:
    """Keeps a model from being unloaded while a request uses it.

    A model that is loaded is held at once, any other as soon as `loaded` has returned.
    """

    def __init__(
        self,
        slot: Slot,
        wait: Callable[["Lease", float], Awaitable[None]],
        give_back: Callable[[Slot], None],
    ) -> None:
        self._slot = slot
        self._wait = wait
        self._give_back = give_back
        self._is_over = False
        self.is_loaded = False
        """Whether the model is held: requests may use it."""

    @property
    def spec(self) -> ModelSpec:
        return self._slot.spec

    @property
    def model(self) -> ServedModel:
        return self._slot.model

    def enter(self) -> None:
        """Holds the model, which is loaded."""
        assert not self._is_over, "a lease that was given back is not used again"
        self.is_loaded = True
        self._slot.num_users += 1

    async def loaded(self, deadline: float) -> None:
        """Waits until the model is loaded and held. Raises EngineUnavailable if it cannot be
        loaded, EngineOverloaded if too many wait already, and DeadlineExceeded at the `deadline`
        (monotonic, may be infinite)."""
        if not self.is_loaded:
            await self._wait(self, deadline)

    def release(self) -> None:
        """Gives the model back. May be called again."""
        if self._is_over:
            return
        self._is_over = True
        if self.is_loaded:
            self._slot.num_users -= 1
            self._give_back(self._slot)
