"""A server whose settings file a test rewrites."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from gateway.settings.source import SettingsSource
from tests.kit.api_keys import bearer
from tests.kit.command_line import ADMIN
from tests.kit.serving import MODEL, RunningServer, running_server

SCRIPTED = {"model.served_name": MODEL, "engine.name": "scripted"}


def write_settings(file: Path, settings: dict[str, Any]) -> None:
    """Writes settings by their paths, at one go, as editors do."""
    text = "".join(f"{path} = {_toml(value)}\n" for path, value in settings.items())
    new = file.with_suffix(f".{uuid.uuid4().hex}")
    new.write_text(text, encoding="utf-8")
    new.replace(file)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {_toml(item)}' for key, item in value.items()) + "}"
    return json.dumps(value)


class Reloadable(RunningServer):
    """A server, its settings file, and an admin's key to have it read again."""

    def __init__(self, running: RunningServer, file: Path, settings: dict[str, Any]) -> None:
        super().__init__(running.port, running.config)
        self.http.headers.update(bearer(ADMIN))
        self.file = file
        self.settings = settings

    @property
    def context(self) -> Any:
        config: Any = self.config
        return config.app.state.context

    def write(self, **settings: Any) -> None:
        """Writes the file anew; these settings differ. Names have `__` for dots."""
        changed = {name.replace("__", "."): value for name, value in settings.items()}
        write_settings(self.file, {**self.settings, **changed})

    def reload(self, **body: Any) -> httpx.Response:
        return self.http.post("/admin/reload", json=body)


@contextmanager
def reloadable_server(
    folder: Path, settings: dict[str, Any], *, has_keys: bool = True
) -> Iterator[Reloadable]:
    """A scripted server with these settings, by their paths, and an admin's key."""
    file = folder / "settings.toml"
    settings = {**SCRIPTED, **settings}
    write_settings(file, settings)
    source = SettingsSource(str(file), environ={})
    keys = {"LOCKGATE_ADMIN_API_KEY": ADMIN} if has_keys else {}
    with running_server(source.loaded, source=source, environ=keys) as running:
        server = Reloadable(running, file, settings)
        with server.http:
            yield server
