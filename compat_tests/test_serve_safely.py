"""Safe defaults of `lockgate serve`: where it listens, over TLS, and what its log shows."""

import socket
import ssl
from pathlib import Path

import httpx
import pytest

from gateway.admission.keys import KeyRing
from gateway.commands.serving.address import check_exposure
from gateway.commands.serving.tls import check_tls
from gateway.settings.schema import ServerSettings
from runtime.errors import SetupError
from tests.kit.api_keys import write_keys
from tests.kit.certificates import Certificate, make_certificate
from tests.kit.chat.answers import CHAT, HI
from tests.kit.command_line import ADMIN, SCRIPTED, lockgate, posix, served
from tests.kit.raw_http import error_code
from tests.kit.serving import PATIENCE

SECRET = "xyzzy plugh"


def test_it_does_not_listen_for_everybody_without_a_key(tmp_path: Path):
    answer = lockgate(tmp_path, "serve", *SCRIPTED, "--host", "0.0.0.0")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "there is no API key" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_key_or_an_order_opens_it(tmp_path: Path, host: str):
    write_keys(tmp_path / "keys.toml", alice={})
    with pytest.raises(SetupError, match="--allow-unauthenticated"):
        check_exposure(ServerSettings(host=host), KeyRing())
    check_exposure(ServerSettings(host=host), KeyRing(tmp_path / "keys.toml"))
    check_exposure(ServerSettings(host=host, allow_unauthenticated=True), KeyRing())
    check_exposure(ServerSettings(host="localhost"), KeyRing())


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path, "localhost", "subjectAltName=IP:127.0.0.1")


def test_it_serves_over_tls(tmp_path: Path, certificate: Certificate):
    options = ("--set", f"server.tls_certificate={certificate[0]}")
    options += ("--set", f"server.tls_key={certificate[1]}")
    trust = ssl.create_default_context(cafile=certificate[0])
    with served(tmp_path, *options, verify=trust) as server:
        assert str(server.http.base_url).startswith("https://")
        assert server.http.get("/v1/models").status_code == 200
        plain = httpx.get(str(server.http.base_url).replace("https", "http") + "/health/live")
        assert (plain.status_code, error_code(plain.content)) == (400, "https_required")
        options = ("--port", str(server.http.base_url.port), "--message", "hi")
        found = lockgate(tmp_path, "chat", *options, LOCKGATE_API_KEY=ADMIN)
        assert (found.returncode, found.stdout) == (2, "")
        assert "https://" in found.stderr


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1"])
def test_a_handshake_has_as_long_as_headers_have(
    tmp_path: Path, certificate: Certificate, sent: bytes
):
    options = ("--set", f"server.tls_certificate={certificate[0]}")
    options += ("--set", f"server.tls_key={certificate[1]}", "--set", "server.header_timeout=1")
    trust = ssl.create_default_context(cafile=certificate[0])
    with served(tmp_path, *options, verify=trust) as server:
        address = server.http.base_url
        with socket.create_connection((address.host, address.port), PATIENCE / 2) as client:
            client.sendall(sent)
            while client.recv(100):
                continue
        assert server.http.get("/v1/models").status_code == 200


def test_a_certificate_that_is_not_usable_is_a_setup_error(
    tmp_path: Path, certificate: Certificate
):
    with pytest.raises(SetupError, match=r"server.tls_certificate: .*none.pem cannot be read"):
        check_tls(ServerSettings(tls_certificate=str(tmp_path / "none.pem")))
    with pytest.raises(SetupError, match="and its key are not usable"):
        check_tls(ServerSettings(tls_certificate=str(certificate[0])))
    with pytest.raises(SetupError, match=r"without server\.tls_certificate"):
        check_tls(ServerSettings(tls_key=str(certificate[1])))


@posix
@pytest.mark.parametrize("asked", [False, True])
def test_prompts_are_in_the_log_only_when_asked_for_and_keys_never(tmp_path: Path, asked: bool):
    options = ("--set", "log.level=debug", "--set", f"log.prompts={str(asked).lower()}")
    with served(tmp_path, *options, step_ms=0) as server:
        messages = [*HI, {"role": "user", "content": SECRET}]
        body = {"model": "scripted", "messages": messages, "max_tokens": 3, "what": SECRET}
        assert server.http.post(CHAT, json=body).status_code == 200
        wrong = {**body, "temperature": SECRET}
        assert server.http.post(CHAT, json=wrong).status_code == 400
        wrong_key = {"Authorization": "Bearer sk-lockgate-nobody"}
        assert server.http.post(CHAT, json=body, headers=wrong_key).status_code == 401
        shown = server.http.get("/health").text + server.http.get("/metrics").text
        server.process.terminate()
        _, log = server.ended()
    assert "unknown_field_ignored" in log
    assert (SECRET in log) is asked
    for text in (log, shown):
        assert ADMIN not in text
        assert "sk-lockgate-nobody" not in text
