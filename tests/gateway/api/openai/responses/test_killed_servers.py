"""Servers that are killed while they store responses: what was acknowledged is there afterwards."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from server import RunningServer, starting_gateway
from server import wait_for as wait_for_reply

from tests.kit.openai.responses import URL
from tests.kit.openai.schemas import check_response
from tests.kit.serving import wait_for

NUM_KILLS = 4
NUM_CLIENTS = 8
MAX_UNFINISHED = 20
"""Responses in the background that a client waits for at a time."""
MAX_DELAY = 2.0
"""Seconds after which an answer is stored, on a busy machine too."""


@contextmanager
def served(path: Path, **settings: str) -> Iterator[RunningServer]:
    known = {"store.path": str(path / "store.db"), "engine.scripted.num_tokens": "20", **settings}
    with starting_gateway(known) as server:
        wait_for_reply(server.port, "/health/ready", 60)
        yield server


def url_of(server: RunningServer, path: str = "") -> str:
    return f"http://127.0.0.1:{server.port}{URL}{path}"


class Client:
    """Asks for one response after the other until its server is gone. `whole` are the answers that
    have come, with their times, `begun` the ids of responses in the background."""

    def __init__(self, server: RunningServer, number: int) -> None:
        self.whole: list[tuple[float, dict[str, Any]]] = []
        self.begun: list[str] = []
        self._server = server
        self._number = number

    def run(self) -> None:
        previous = None
        with httpx.Client(timeout=30) as http:
            try:
                while True:
                    previous = self._ask(http, previous)
            except httpx.TransportError:
                return  # it was killed

    def _ask(self, http: httpx.Client, previous: str | None) -> str:
        """One response, which follows upon the previous one."""
        in_background = self._number % 2 == 1
        body = {"input": "hi", "seed": self._number, "max_output_tokens": 20}
        if in_background:
            answer = http.post(url_of(self._server), json=body | {"background": True}).json()
            self.begun.append(answer["id"])
            if len(self.begun) > MAX_UNFINISHED:
                end_of(http, self._server, self.begun[-MAX_UNFINISHED])
            return ""
        body |= {"previous_response_id": previous} if previous else {}
        answer = http.post(url_of(self._server), json=body).json()
        assert answer["output"], answer
        self.whole.append((time.monotonic(), answer))
        return str(answer["id"]) if len(self.whole) % 5 else ""


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    """At random moments, again and again on one store. An answer is written after it was sent, so
    that the last moments may be missing. A response in the background is stored before."""
    luck = random.Random(5)
    begun: list[str] = []
    whole: list[dict[str, Any]] = []
    for _ in range(NUM_KILLS):
        with served(tmp_path) as server, ThreadPoolExecutor(NUM_CLIENTS) as pool:
            clients = [Client(server, number) for number in range(NUM_CLIENTS)]
            running = [pool.submit(client.run) for client in clients]
            wait_for_answers(clients)
            time.sleep(MAX_DELAY * (0.5 + luck.random()))
            killed = time.monotonic()
            psutil.Process(server.pid).kill()
            for each in running:
                each.result()
        begun += [response_id for each in clients for response_id in each.begun]
        answers = [answer for each in clients for answer in each.whole]
        whole += [answer for at, answer in answers if at < killed - MAX_DELAY]
    with served(tmp_path) as server, httpx.Client(timeout=30) as http:
        ends = [end_of(http, server, response_id) for response_id in begun]
        lost = [each for each in whole if http.get(url_of(server, f"/{each['id']}")).json() != each]
    assert {each["status"] for each in ends} <= {"completed", "incomplete"}
    assert lost == [], f"{len(lost)} of {len(whole)}"
    assert len(whole) > NUM_KILLS


def wait_for_answers(clients: list[Client]) -> None:
    wait_for(lambda: all(each.whole or each.begun for each in clients))


def end_of(http: httpx.Client, server: RunningServer, response_id: str) -> dict[str, Any]:
    def now() -> Any:
        response = http.get(url_of(server, f"/{response_id}"))
        assert response.status_code == 200, response.text
        return response.json()

    wait_for(lambda: now()["status"] not in ("queued", "in_progress"), timeout=60)
    answer: dict[str, Any] = now()
    check_response(answer)
    return answer
