"""Notices changed files, and has them read."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import structlog

from gateway.admission.keys import keys_path
from gateway.reload.file_watch import FileWatch
from gateway.reload.reloader import Reloader
from gateway.settings.live import LiveSettings

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
"""How often the files are looked at. A change is read at the second look that finds it."""


class Watcher:
    """Reloads what changes on disk while `server.watch_files` is on. `settings_file` is the file of
    the settings, if they have one. The file of the keys is read by itself."""

    def __init__(self, reloader: Reloader, live: LiveSettings, settings_file: Path | None) -> None:
        self._reloader = reloader
        self._live = live
        self._settings_file = settings_file
        self._files = FileWatch()

    async def run(self) -> None:
        """Watches until it is cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self._look()
            except Exception:
                # not a mistake in a file but a bug here, which must not end the watch
                log.exception("reload_failed")

    async def _look(self) -> None:
        if not self._live.current.server.watch_files:
            return
        keys_file = keys_path(self._live.current.auth)
        changed = await asyncio.to_thread(self._files.changed, list(self._watched(keys_file)))
        if keys_file in changed:
            await self._reloader.reload_keys()
        if changed - {keys_file}:
            await self._reloader.reload()

    def _watched(self, keys_file: Path | None) -> Iterator[Path]:
        server = self._live.current.server
        named = (server.tls_certificate, server.tls_key)
        yield from (Path(name) for name in named if name)
        yield from (file for file in (keys_file, self._settings_file) if file is not None)
