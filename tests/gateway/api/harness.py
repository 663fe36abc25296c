"""What the tests of the API share."""

from typing import Any

import httpx
from openai import OpenAI

from tests.kit.serving import RunningServer

WHOLE_ANSWER = "Grüße, 狐狸: the quick brown fox! "
"""After it comes the end of the text."""

SENTENCE = "Schöne Grüße: the quick brown fox, 狐狸! "


def strict_client(server: RunningServer) -> OpenAI:
    return OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        _strict_response_validation=True,
    )


def without_identity(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in ("id", "created")}


def check_error(response: httpx.Response, status: int, param: str | None, code: str) -> None:
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (status, param, code)
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert response.headers["openai-processing-ms"]


def is_idle(server: RunningServer) -> bool:
    health = server.health()
    return health["num_requests_in_flight"] == 0 and health["stats"]["num_running"] == 0
