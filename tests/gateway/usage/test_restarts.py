"""The usage that a server tells is that of the answers which it gave in all of its lives."""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.store.sqlite import open_sqlite
from gateway.store.usage import Counts, UsageQuery
from tests.kit.chat.answers import CHAT, EMBEDDINGS, HI, RERANK, RESPONSES, SCORE, TEXT
from tests.kit.command_line import Served, served
from tests.kit.serving import wait_for

pytestmark = pytest.mark.posix("signals")

GENERATE = "/generate"
USAGE = "/v1/organization/usage"
NUM_REQUESTS = 60
MODEL = "scripted"

Sums = Counter[tuple[str, str]]
"""Requests, tokens of prompts and tokens of answers by endpoint."""


def sums_of(path: str, usage: dict[str, Any]) -> Sums:
    prompts = usage.get("prompt_tokens", usage.get("input_tokens"))
    answers = usage.get("completion_tokens", usage.get("output_tokens", 0))
    assert isinstance(prompts, int)
    return Counter({(path, "requests"): 1, (path, "input"): prompts, (path, "output"): answers})


def whole(path: str, body: dict[str, Any]) -> Callable[[httpx.Client], Sums]:
    def ask(http: httpx.Client) -> Sums:
        answer = http.post(path, json={"model": MODEL, **body})
        if answer.status_code == 503:
            return Counter()
        assert answer.status_code == 200, answer.text
        return sums_of(path, answer.json()["usage"])

    return ask


def streamed(path: str, body: dict[str, Any]) -> Callable[[httpx.Client], Sums]:
    def ask(http: httpx.Client) -> Sums:
        options = {} if path == RESPONSES else {"stream_options": {"include_usage": True}}
        answer = http.post(path, json={"model": MODEL, "stream": True, **options, **body})
        if answer.status_code == 503:
            return Counter()
        events = [
            json.loads(line.removeprefix("data: "))
            for line in answer.text.splitlines()
            if line.startswith("data: {")
        ]
        last = events[-1]
        return sums_of(path, last["response"]["usage"] if "response" in last else last["usage"])

    return ask


def cut(path: str, num_lines: int) -> Callable[[httpx.Client], Sums]:
    """A client that leaves a long answer, of which nothing is known but what it has read."""

    def ask(http: httpx.Client) -> Sums:
        body = {"model": MODEL, "prompt": "once", "max_tokens": 3000, "stream": True}
        with http.stream("POST", path, json=body) as answer:
            if answer.status_code == 200:
                lines = answer.iter_lines()
                for _ in range(2 * num_lines):
                    next(lines)
        return Counter()

    return ask


def requests(seed: int) -> Iterator[Callable[[httpx.Client], Sums]]:
    pick = random.Random(seed)
    for _ in range(NUM_REQUESTS):
        n, content = pick.randint(1, 30), "a" * pick.randint(1, 99)
        yield pick.choice(
            [
                whole(CHAT, {"messages": HI, "max_tokens": n, "n": pick.randint(1, 3)}),
                streamed(CHAT, {"messages": HI, "max_tokens": n}),
                whole(RESPONSES, {"input": content, "max_output_tokens": n}),
                streamed(RESPONSES, {"input": content, "max_output_tokens": n}),
                whole(EMBEDDINGS, {"input": [content, "b"]}),
                whole(RERANK, {"query": content, "documents": ["a", content]}),
                whole(SCORE, {"text_1": content, "text_2": "b"}),
                whole(GENERATE, {"prompt": content, "max_new_tokens": n}),
                cut(TEXT, n),
            ]
        )


def asked(server: Served, seed: int, after: Callable[[], object] = lambda: None) -> Sums:
    """The sums of many answers, of which some are on their way when `after` is called."""

    def ask(request: Callable[[httpx.Client], Sums]) -> Sums:
        try:
            return request(server.http)
        except httpx.TransportError:  # it does not listen any more
            return Counter({("", "unanswered"): 1})

    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(ask, request) for request in requests(seed)]
        for each in answers[: NUM_REQUESTS // 2]:
            each.result()
        after()
        return sum((each.result() for each in answers), Sums())


def told(server: Served) -> Sums:
    found = Sums()
    for kind in ("completions", "embeddings"):
        query = {"start_time": str(int(time.time()) - 86_400), "group_by": "endpoint"}
        answer = server.http.get(f"{USAGE}/{kind}", params=query)
        for bucket in answer.json()["data"]:
            for each in bucket["results"]:
                path = each["endpoint"]
                found[path, "requests"] += each["num_model_requests"]
                found[path, "input"] += each["input_tokens"]
                found[path, "output"] += each.get("output_tokens", 0)
    return found


def stored(path: Path) -> Sums:
    with closing(open_sqlite(path)) as database:
        sums = database.find_usage(UsageQuery(0, 2**40))
    found = Sums()
    for key, each in sums.items():
        found += named(key.endpoint, each)
    return found


def named(path: str, counts: Counts) -> Sums:
    return Sums(
        {
            (path, "requests"): counts.num_requests,
            (path, "input"): counts.input_tokens,
            (path, "output"): counts.output_tokens,
        }
    )


def without_cut(sums: Sums) -> Sums:
    return Sums({key: count for key, count in sums.items() if key[0] not in ("", TEXT) and count})


def generated(server: Served) -> float:
    text = server.http.get("/metrics").text
    line = next(
        line for line in text.splitlines() if line.startswith("lockgate_generation_tokens_total{")
    )
    return float(line.rpartition(" ")[2])


def test_usage_is_that_of_all_answers_of_all_lives(tmp_path: Path) -> None:
    options = ("--set", f"store.path={tmp_path / 'store.db'}")
    expected, num_generated = Sums(), 0.0
    for life in range(2):
        with served(tmp_path, *options, step_ms=0.2) as server:
            assert without_cut(told(server)) == without_cut(expected)
            expected += asked(server, seed=life)
            assert without_cut(told(server)) == without_cut(expected)
            wait_for(lambda: server.http.get("/health").json()["num_requests_in_flight"] == 0)
            num_generated += generated(server)
            outputs = [count for (_, what), count in told(server).items() if what == "output"]
            assert sum(outputs) == num_generated, "what was generated for who left counts too"
            assert told(server)[TEXT, "output"] > 0
            num_before = num_generated
            expected += asked(server, 7 + life, lambda: server.process.send_signal(signal.SIGTERM))
            assert server.process.wait(20) == 0
            num_generated = sum(
                count
                for (_, what), count in stored(tmp_path / "store.db").items()
                if what == "output"
            )
            assert num_generated >= num_before
    assert without_cut(stored(tmp_path / "store.db")) == without_cut(expected)


def until_stored(path: Path, sums: Sums) -> None:
    wait_for(lambda: without_cut(stored(path)) == without_cut(sums))


def test_a_killed_server_loses_what_it_had_not_written_and_doubles_nothing(tmp_path: Path) -> None:
    """What it had not sent yet may be written, and what it had sent a moment ago may be not."""
    path = tmp_path / "store.db"
    for life in range(3):
        with served(tmp_path, "--set", f"store.path={path}", step_ms=0.2) as server:
            known = without_cut(stored(path))
            assert without_cut(told(server)) == known
            complete = known + asked(server, seed=20 + life)
            until_stored(path, complete)
            answered = asked(server, seed=30 + life, after=server.process.kill)
            server.process.wait(20)
        found = stored(path)
        assert without_cut(complete) <= without_cut(found)
        excess = without_cut(found) - without_cut(complete + answered)
        num_excess = sum(count for (_, what), count in excess.items() if what == "requests")
        assert num_excess <= answered["", "unanswered"]
