"""Streams together, clients that leave, servers that end: the real server and the real model."""

import http.client
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil

from compat_tests.conftest import MODEL, Server, serve, until
from runtime.processes import is_alive

PROMPTS = [
    "Write a haiku about rain.",
    "What is a hash table?",
    "Name three prime numbers.",
    "Translate 'good morning' into French.",
    "Write a Python loop that prints 1 to 3.",
    "Why is the sky blue?",
    "What does HTTP stand for?",
    "Give a synonym for 'quick'.",
]


def ask(server: Server, prompt: str) -> str:
    response = server.http.post(
        "/v1/chat/completions",
        json={
            "model": MODEL,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": 16,
        },
    )
    assert response.status_code == 200, response.text
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


def open_stream(server: Server) -> http.client.HTTPConnection:
    """A connection whose stream has begun and would go on for minutes."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Count to ten thousand."}],
        "max_tokens": 8000,
        "stream": True,
    }
    connection.request(
        "POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
    )
    assert connection.getresponse().readline().startswith(b"data: ")
    return connection


def test_eight_streams_together_are_sooner_than_one_after_another(server):
    ask(server, "warm up")
    started = time.monotonic()
    for prompt in PROMPTS:
        ask(server, prompt)
    one_by_one = time.monotonic() - started

    started = time.monotonic()
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        list(pool.map(lambda prompt: ask(server, prompt), PROMPTS))
    together = time.monotonic() - started

    assert together < one_by_one


def test_a_client_that_leaves_frees_its_sequence(server):
    connection = open_stream(server)
    until(lambda: server.stats()["num_running"] == 1, 10)

    connection.close()

    until(lambda: server.stats()["num_running"] == 0, 10)
    assert ask(server, "What is two plus two?")


def test_killing_the_engine_costs_a_pause_and_no_token(server):
    """The answer after the engine's death equals the undisturbed one."""
    prompt = "Repeat these words: one two three four five six seven eight nine ten"
    expected = ask(server, prompt)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, server, prompt)
        until(lambda: server.stats()["num_running"] == 1, 10)
        for engine in server.engines():
            engine.kill()
        answer = asked.result(timeout=60)

    assert answer == expected


def test_a_terminated_server_leaves_nothing_behind():
    with serve() as server:
        engines = server.engines()
        assert engines
    assert server.process.returncode == 0
    assert not any(map(is_alive, engines))


def test_a_killed_server_takes_its_engine_with_it():
    with serve() as server:
        [engine] = server.engines()
        connections = psutil.Process(server.process.pid).net_connections("unix")
        folders = {os.path.dirname(connection.laddr) for connection in connections}
        [folder] = {folder for folder in folders if "lockgate-" in folder}
        os.kill(server.process.pid, signal.SIGKILL)

        until(lambda: not is_alive(engine), 2)

    assert not os.path.exists(folder)
