"""`lockgate chat` against a server that says what a test makes it say."""

import io
import json
import ssl
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main
from tests.kit.certificates import Certificate, make_certificate

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
    list_status = 200
    models = b'{"data": [{"id": "m"}]}'

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: list[str | None] = []
        self.asked: list[dict[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Peer

    def do_GET(self) -> None:
        self._answer(self.server.list_status, self.server.models)

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


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """Not of the address at which the server is."""
    return make_certificate(tmp_path, "chat.example")


@pytest.fixture
def safe_peer(peer: Peer, certificate: Certificate) -> Peer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    peer.socket = context.wrap_socket(peer.socket, server_side=True)
    return peer


def test_server_that_speaks_tls_is_found(
    safe_peer: Peer, certificate: Certificate, capsys: pytest.CaptureFixture[str]
) -> None:
    both = certificate.key.with_name("both.pem")
    both.write_bytes(certificate.key.read_bytes() + certificate.certificate.read_bytes())
    for file in (certificate.certificate, both):
        assert ask(safe_peer, "--set", f"server.tls_certificate={file}") == 0
    assert capsys.readouterr() == ("a b\n" * 2, "")


def test_server_with_another_certificate_is_not_talked_to(
    safe_peer: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is a second one started. The chain may hold the other one: it is not the server's own."""
    other = make_certificate(tmp_path, "other.example").certificate
    chain = tmp_path / "chain.pem"
    chain.write_bytes(other.read_bytes() + (tmp_path / "chat.example-cert.pem").read_bytes())
    for file in (other, chain):
        assert ask(safe_peer, "--set", f"server.tls_certificate={file}") == 2
        assert "does not show server.tls_certificate" in capsys.readouterr().err
    assert safe_peer.asked == []


@pytest.mark.parametrize("content", [None, "", "no PEM", "-----BEGIN CERTIFICATE-----\nx"])
def test_certificate_that_cannot_be_read(
    peer: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    file = tmp_path / "some.pem"
    if content is not None:
        file.write_text(content)
    assert ask(peer, "--set", f"server.tls_certificate={file}") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"lockgate: server.tls_certificate: {file} holds no certificate that")
    assert error.count("\n") == 1


def test_server_that_refuses_to_list_its_models(
    peer: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.list_status, peer.models = 400, b'{"error": {"message": "Speak up."}}'
    assert ask(peer) == 2
    assert "Speak up." in capsys.readouterr().err


@pytest.mark.parametrize("typed", [b"caf\xe9\n", b"\xff\n/exit\n", b"\x80"])
def test_bytes_that_are_no_text_are_not_sent(
    peer: Peer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: bytes,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8"))
    assert main(["chat", "--port", str(peer.server_port)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lockgate: standard input: ")
    assert error.endswith(" is not valid utf-8\n")
    assert peer.asked == []


@pytest.mark.parametrize("option", ["--message", "--system"])
def test_options_that_are_no_text_are_not_sent(
    peer: Peer, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert ask(peer, option, "caf\udce9") == 2
    message = f"lockgate: {option}: caf\\xe9 is not valid UTF-8\n"
    assert capsys.readouterr() == ("", message)
    assert peer.asked == []


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-0.1", "2.1", "1e999", "x", ""])
def test_temperature_that_cannot_be_is_wrong_usage(
    peer: Peer, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    assert ask(peer, f"--temperature={value}") == 2
    assert f"argument --temperature: {value!r} is not a number from 0 to 2" in (
        capsys.readouterr().err
    )
    assert peer.asked == []


@pytest.mark.parametrize("value", ["-2", "1.5", "nan", "9" * 30, "9" * 5000, ""])
def test_number_of_tokens_that_cannot_be_is_wrong_usage(
    peer: Peer, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    assert ask(peer, f"--max-tokens={value}") == 2
    assert "argument --max-tokens: " in capsys.readouterr().err
    assert peer.asked == []
