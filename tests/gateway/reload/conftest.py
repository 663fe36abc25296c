"""A process that serves, with its files in a folder of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.kit.api_keys import bearer
from tests.kit.command_line import Served, served
from tests.kit.reloading import write_settings


class Serving:
    """`lockgate serve`, whose settings file is `settings.toml`."""

    def __init__(self, server: Served, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.http = server.http

    def write(self, settings: dict[str, Any]) -> None:
        write_settings(self.folder / "settings.toml", settings)

    def reload(self, **body: Any) -> dict[str, Any]:
        report: dict[str, Any] = self.http.post("/admin/reload", json=body).json()
        return report

    def chat(self, key: str = "", **body: Any) -> httpx.Response:
        return self.http.post(
            "/v1/chat/completions",
            json={**self.server.body(1), "stream": False, "stream_options": None, **body},
            headers=bearer(key) if key else {},
        )

    @contextmanager
    def stream(self, key: str = "", num_tokens: int = 300) -> Iterator[Iterator[str]]:
        """The lines of a stream that has begun."""
        body = self.server.body(num_tokens)
        headers = bearer(key) if key else {}
        with self.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            lines = answer.iter_lines()
            while '"content":"' not in next(lines):
                continue
            yield lines


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Any]:
    """A function that starts the server with these settings and options, as a context."""

    @contextmanager
    def start(settings: dict[str, Any], *options: str, **how: Any) -> Iterator[Serving]:
        write_settings(tmp_path / "settings.toml", settings)
        with served(tmp_path, *options, **how) as server:
            yield Serving(server, tmp_path)

    return start
