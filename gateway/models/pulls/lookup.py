"""Models that are named by requests: found on this machine, or asked for at the hub."""

import asyncio
from pathlib import Path

from gateway.errors import ModelNotPullable
from gateway.models.pulls.wanted import WantedModel
from runtime.errors import EngineUnavailable, ModelNotFound, SetupError
from runtime.models.repositories.names import WebName, parse_name
from runtime.models.store import Model, ModelStore

MAX_LOOKUPS = 4
"""Questions to the hub that are asked at once."""

RETRY_SECONDS = 5.0
"""`retry_after` of a request whose model the hub has not told of."""


def find_by_name(store: ModelStore, name: str) -> Model | None:
    """The model with this name of the catalogue or of the hub, which may have to be pulled. None
    for all other words, also for paths and URLs: a request must not choose a file or a server."""
    if not name.isprintable():
        return None
    try:
        found = store.find(name)
        is_url = isinstance(parse_name(name), WebName)
    except SetupError:
        return None
    is_path = found.name != name or (found.entry is None and Path(name).exists())
    return None if is_path or is_url else found


class Lookups:
    """Asks the hub whether it has models, a few at a time."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(MAX_LOOKUPS)

    async def check(self, wanted: WantedModel) -> None:
        """Raises ModelNotPullable for a model that the hub does not have, and EngineUnavailable
        when it does not say, or when the model is not for this machine."""
        async with self._turns:
            try:
                await asyncio.to_thread(_ask, wanted)
            except ModelNotFound as error:
                raise ModelNotPullable(wanted.name, str(error)) from error
            except SetupError as error:
                raise EngineUnavailable(
                    f"The model `{wanted.name}` cannot be pulled: {error}.",
                    retry_after=RETRY_SECONDS,
                ) from error


def _ask(wanted: WantedModel) -> None:
    wanted.store().look_up(wanted.name)
