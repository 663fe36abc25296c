"""Models of the hub by name: found in the cache, looked up, downloaded."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec import Struct

from runtime.errors import ModelNotFound, PullError
from runtime.models.integrity.marks import mark, state_of
from runtime.models.repositories.blobs import FileFetch, fetch_blob, no_space
from runtime.models.repositories.cache import CachedModel, HubCache
from runtime.models.repositories.client import HubClient
from runtime.models.repositories.listing import Choice, Form, choose
from runtime.models.repositories.names import HubName
from runtime.models.repositories.place import HubPlace
from runtime.models.sources import Progress


class Wants(Struct, frozen=True, kw_only=True):
    """What a model must be: of a form that the engine loads, and running in so many bytes of
    memory; 0 is no limit."""

    form: Form = "any"
    memory: int = 0


class Repositories:
    """The models of the hub at a place. `wants` decides where a name leaves a choice."""

    def __init__(self, place: HubPlace, wants: Wants) -> None:
        self.place = place
        self.wants = wants
        self.cache = HubCache(place.cache)

    def find(self, name: HubName) -> CachedModel | None:
        """The model in the cache; nothing is asked of the network."""
        return self.cache.find(name, self.wants.form)

    def look_up(self, name: HubName) -> Choice:
        """What the hub has under the name. Raises ModelNotFound, ModelFileError, PullError."""
        with self._client(name, _unheard) as client:
            return self._choose(client, name)

    def pull(self, name: HubName, progress: Progress) -> CachedModel:
        """Downloads what the name means unless it is there already, whole and intact.

        Raises ModelNotFound, ModelFileError and PullError; nothing has a name in the cache then
        that is not whole. Offline it is the model in the cache.
        """
        if self.place.is_offline:
            return self._cached(name)

        def on_wait(reason: str) -> None:
            progress(0, 0, reason)

        with self._client(name, on_wait) as client:
            choice = self._choose(client, name)
            self._check_space(choice)
            self._fetch(client, choice, progress)
        return self._entered(choice, name)

    def _cached(self, name: HubName) -> CachedModel:
        found = self.find(name)
        if found is None:
            raise PullError(
                f"{name.text} is not in {self.cache.folder}, and nothing is downloaded offline"
                " (--offline, model.offline, HF_HUB_OFFLINE)"
            )
        return found

    @contextmanager
    def _client(self, name: HubName, on_wait: Callable[[str], None]) -> Iterator[HubClient]:
        if self.place.is_offline:
            self._cached(name)
        client = HubClient(self.place, on_wait)
        try:
            yield client
        finally:
            client.close()

    def _choose(self, client: HubClient, name: HubName) -> Choice:
        try:
            listing = client.listing(name.repository, name.revision)
        except ModelNotFound as error:
            if name.is_certain:
                raise
            message = f"there is no file or folder {name.text} here, and {error}"
            raise ModelNotFound(message) from error
        return choose(listing, name, form=self.wants.form, memory=self.wants.memory)

    def _check_space(self, choice: Choice) -> None:
        """All files must have room together, before the first is fetched."""
        folder, repository = self.cache.folder, choice.listing.repository
        commit = choice.listing.commit
        missing = sum(
            file.size
            for file in choice.files
            if not self.cache.content(repository, commit, file).exists()
        )
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < missing:
            raise no_space(repository, missing, free, folder)

    def _fetch(self, client: HubClient, choice: Choice, progress: Progress) -> None:
        before = 0
        for file in choice.files:

            def report(done: int, total: int, label: str, before: int = before) -> None:
                progress(before + done, choice.num_bytes if total else 0, label)

            fetch_blob(
                FileFetch(
                    listing=choice.listing,
                    file=file,
                    client=client,
                    cache=self.cache,
                    progress=report,
                )
            )
            before += file.size

    def _entered(self, choice: Choice, name: HubName) -> CachedModel:
        """Gives the files their names, when all are there."""
        listing = choice.listing
        for file in choice.files:
            path = self.cache.link(listing.repository, listing.commit, file)
            if file.is_large:
                mark(path, state_of(path.stat()), file.oid)
        if listing.ref:
            self.cache.set_ref(listing.repository, listing.ref, listing.commit)
        exact = HubName(
            repository=listing.repository,
            file="" if choice.is_folder else choice.files[0].path,
            revision=listing.commit,
        )
        found = self.cache.find(exact, "folder" if choice.is_folder else "gguf")
        if found is None:
            raise PullError(f"{name.text} lacks files that its index names")
        return found


def _unheard(reason: str) -> None:
    """Nobody is told of pauses."""
