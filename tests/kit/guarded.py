"""A server with keys, and what it refuses with."""

import httpx

from tests.kit.api_keys import bearer
from tests.kit.chat.answers import CHAT, HI
from tests.kit.serving import (
    MODEL,
    RunningServer,
)

KEYS = {
    "admin": {"role": "admin"},
    "alice": {},
    "elsewhere": {"models": ["other"]},
    "batch": {"priority": "batch"},
    "counted": {"requests_per_minute": 2},
    "metered": {"tokens_per_minute": 500},
    "single": {"max_concurrent_requests": 1},
}


class Guarded:
    """A server with keys."""

    def __init__(self, server: RunningServer, keys: dict[str, str]) -> None:
        self.server = server
        self.keys = keys

    def get(self, path: str, name: str | None = None) -> httpx.Response:
        return self.server.http.get(path, headers=self._headers(name))

    def post(self, path: str, name: str | None = None, **body: object) -> httpx.Response:
        return self.server.http.post(path, headers=self._headers(name), json=body)

    def chat(self, name: str | None, **body: object) -> httpx.Response:
        return self.post(CHAT, name, **{"model": MODEL, "messages": HI, "max_tokens": 3, **body})

    def _headers(self, name: str | None) -> dict[str, str]:
        return bearer(self.keys[name]) if name else {}


def error_of(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["code"], error["param"]


UNAUTHORIZED = (401, "invalid_api_key", None)
