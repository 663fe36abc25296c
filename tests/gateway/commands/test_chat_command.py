"""`lockgate chat` against a server that says what a test makes it say."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main

KEY = "sk-a-key-of-the-user-é"


def event(**delta: Any) -> bytes:
    chunk = json.dumps({"choices": [{"delta": delta}]}, ensure_ascii=False)
    return f"data: {chunk}\n\n".encode()


DONE = b"data: [DONE]\n\n"
ANSWER = event(content="a b") + DONE


class Peer(ThreadingHTTPServer):
    """A server with one model. `status` and `body` are its answer to every chat."""

    status = 200
    body = ANSWER
    cuts_off = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: list[str | None] = []
        self.asked: list[dict[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Peer

    def do_GET(self) -> None:
        self._answer(200, b'{"data": [{"id": "m"}]}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body))
        self._answer(self.server.status, self.server.body, self.server.cuts_off)

    def _answer(self, status: int, body: bytes, is_cut_off: bool = False) -> None:
        key = self.headers["Authorization"]
        self.server.keys.append(key and key.encode("latin-1").decode())
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + is_cut_off))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peer]:
    monkeypatch.chdir(tmp_path)
    for name in ("LOCKGATE_CONFIG", "LOCKGATE_API_KEY", "LOCKGATE_ADMIN_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with Peer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(peer: Peer, *options: str) -> int:
    return main(["chat", "--port", str(peer.server_port), "--message", "hi", *options])


STREAMS = [
    (ANSWER, "a b\n", ""),
    (b": quiet\r\n\r\n" + ANSWER.replace(b"\n", b"\r\n"), "a b\n", ""),
    (event(role="assistant") + event(content=None) + ANSWER, "a b\n", ""),
    (event(content="1\u2028\x85\x0c2") + DONE.strip(), "1\u2028\x85\x0c2\n", ""),
    (event(content="a") + b'data: {"error": {"message": "Full."}}\n\n', "a", "lockgate: Full.\n"),
    (event(content="a"), "a", "lockgate: the server broke off the answer\n"),
    (event(content="a") + b"data: {}}\n", "a", "lockgate: the server's answer cannot be read: "),
    (event(content="a") + b'data: "\xff"\n', "a", "lockgate: the server's answer cannot be read: "),
]


@pytest.mark.parametrize(("body", "answer", "error"), STREAMS)
def test_stream_as_it_is_shown(
    peer: Peer, capsys: pytest.CaptureFixture[str], body: bytes, answer: str, error: str
) -> None:
    peer.body = body
    assert ask(peer) == (2 if error else 0)
    shown = capsys.readouterr()
    assert shown.out == answer
    assert shown.err.startswith(error)
    assert shown.err.count("\n") == bool(error)


def test_connection_that_ends_before_the_stream(
    peer: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.body, peer.cuts_off = event(content="a"), True
    assert ask(peer) == 2
    assert capsys.readouterr() == ("a", "lockgate: the server broke off the answer\n")


@pytest.mark.parametrize(
    ("option", "param"), [("--max-tokens", "max_tokens"), ("--temperature", "temperature")]
)
def test_refusal_names_the_option(
    peer: Peer, capsys: pytest.CaptureFixture[str], option: str, param: str
):
    peer.status = 400
    message = f"`{param}` is 0: send more than `{param}`."
    peer.body = json.dumps({"error": {"message": message, "param": param}}).encode()

    assert ask(peer, option, "0") != 0
    assert f"`{option}` is 0: send more than `{option}`." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "Too hot."}}', "Too hot."),
        (b'{"detail": 1}', "the server answered 400"),
        (b"<html>", "the server answered 400"),
    ],
)
def test_refusal_in_the_words_of_the_server(
    peer: Peer, capsys: pytest.CaptureFixture[str], body: bytes, message: str
) -> None:
    peer.status, peer.body = 400, body
    assert ask(peer) == 2
    assert capsys.readouterr() == ("", f"lockgate: {message}\n")


def test_proxies_are_for_other_servers(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert ask(peer) == 0


@pytest.mark.parametrize("variable", ["LOCKGATE_API_KEY", "LOCKGATE_ADMIN_API_KEY"])
def test_key_of_the_environment_is_sent(
    peer: Peer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
) -> None:
    assert ask(peer) == 0
    assert not any(peer.keys)
    monkeypatch.setenv(variable, f"{KEY}\n")
    assert ask(peer) == 0
    assert peer.keys[-1] == f"Bearer {KEY}"
    capsys.readouterr()
    monkeypatch.setenv(variable, "two\nlines")
    assert ask(peer) == 2
    message = f"lockgate: {variable} holds a character that no header may hold\n"
    assert capsys.readouterr() == ("", message)


def test_options_and_system_message_are_sent(peer: Peer) -> None:
    assert ask(peer, "--system", "Be brief.", "--temperature", "0", "--max-tokens", "3") == 0
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    assert peer.asked == [
        {"model": "m", "messages": messages, "stream": True, "max_tokens": 3, "temperature": 0.0}
    ]


def test_conversation_keeps_what_was_said_also_before_an_error(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.body = event(reasoning_content="hm") + event(content="a")
    typed = iter(["one", "two", "/reset", "three"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed, "/exit"))
    assert main(["chat", "--port", str(peer.server_port), "--system", "s"]) == 0
    said = [[message["content"] for message in body["messages"]] for body in peer.asked]
    assert said == [["s", "one"], ["s", "one", "a", "two"], ["s", "three"]]
    assert capsys.readouterr().err.count("lockgate: the server broke off the answer\n") == 3


def test_host_that_is_no_address(peer: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(peer, "--host", "0:0") == 2
    assert "lockgate: server.host: 0:0 is not an address: " in capsys.readouterr().err
