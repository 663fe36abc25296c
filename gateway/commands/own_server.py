"""The server that `lockgate chat` talks to.

It is the one that runs at the address of the settings. When none does, it is a process of its own.
"""

import argparse
import http
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from gateway.admission.keys import ADMIN_KEY_VARIABLE, KEY_VARIABLE
from gateway.commands.models_on_disk import ensure_model, one_by_one
from gateway.commands.serving.tables import problem_of
from gateway.settings.schema import ServerSettings, Settings
from runtime.config.engines import ENGINES
from runtime.errors import SetupError

CONNECT_TIMEOUT = 2.0
"""Seconds for a connection, and for an answer that takes no work."""

# a silent stream gets a comment every few seconds; this long a silence is a lost server
_READ_TIMEOUT = 300.0
_END_TIMEOUT = 10.0
_POLL_SECONDS = 0.1
_URL = re.compile(r"(http://\S+:\d+)/v1\b")
_CERTIFICATE = re.compile(
    r"-----BEGIN (TRUSTED |X509 )?CERTIFICATE-----.*?-----END \1?CERTIFICATE-----", re.DOTALL
)
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@contextmanager
def server_for(arguments: argparse.Namespace, settings: Settings) -> Iterator[httpx.Client]:
    """A client of a server that is ready: the one that runs, else one that lives as long as the
    block."""
    with _client(_url(settings), server_trust(settings.server)) as client:
        if settings.server.port and _status(client, "/health/live"):
            yield client
            return
    for each in one_by_one(settings):
        if ENGINES[each.engine.name].model_form == "gguf":
            problem_of(each, ensure_model)
    process = _start(arguments)
    try:
        with _client(_greeted_url(process)) as client:
            _wait_until_ready(client, process)
            yield client
    finally:
        _end(process)


def running_server(settings: Settings) -> httpx.Client:
    """A client of the server at the address of the settings, whether one runs there or not."""
    return _client(_url(settings), server_trust(settings.server))


def admin_header() -> dict[bytes, bytes]:
    """The header with an admin's key of the environment, or with the other one if there is none.
    Raises SetupError."""
    return _key_header(ADMIN_KEY_VARIABLE, KEY_VARIABLE)


def _url(settings: Settings) -> httpx.URL:
    host = _EVERY_ADDRESS.get(settings.server.host, settings.server.host)
    scheme = "https" if settings.server.tls_certificate else "http"
    try:
        return httpx.URL(scheme=scheme, host=host, port=settings.server.port)
    except httpx.InvalidURL as error:
        raise SetupError(f"server.host: {host} is not an address: {error}") from error


def server_trust(server: ServerSettings) -> ssl.SSLContext | None:
    """Trust in the server that shows `server.tls_certificate`, and in no other, whoever has issued
    it and whatever name is in it: the address may be one that no certificate holds. None without
    TLS. Raises SetupError if the file holds no certificate."""
    if not server.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be a root
    try:
        context.load_verify_locations(cadata=_own_certificate(server.tls_certificate))
    except (OSError, ValueError) as error:
        raise SetupError(
            f"server.tls_certificate: {server.tls_certificate} holds no certificate that can be"
            f" read: {error}"
        ) from error
    return context


def _own_certificate(file: str) -> str:
    """The first of a chain, which is the server's own. Others have issued more than this one."""
    text = Path(file).read_text(encoding="ascii", errors="replace")
    found = _CERTIFICATE.search(text)
    if found is None:
        raise ValueError("there is none in PEM form")
    return found[0]


def _client(url: httpx.URL | str, trust: ssl.SSLContext | None = None) -> httpx.Client:
    """A client without a proxy. A connection ends with its request."""
    return httpx.Client(
        base_url=url,
        headers=_key_header(KEY_VARIABLE, ADMIN_KEY_VARIABLE),
        timeout=httpx.Timeout(_READ_TIMEOUT, connect=CONNECT_TIMEOUT),
        limits=httpx.Limits(max_keepalive_connections=0),
        trust_env=False,
        verify=trust or False,  # those of the system take time to load
    )


def _key_header(*variables: str) -> dict[bytes, bytes]:
    for variable in variables:
        if key := os.environ.get(variable, "").strip():
            if not key.isprintable():
                raise SetupError(f"{variable} holds a character that no header may hold")
            return {b"Authorization": f"Bearer {key}".encode()}
    return {}


def _status(client: httpx.Client, path: str) -> int:
    """The status that the server answers with, 0 when there is no server. Raises SetupError if
    there is one that is not the one of the settings."""
    try:
        return client.get(path, timeout=CONNECT_TIMEOUT).status_code
    except httpx.HTTPError as error:
        if (cause := _tls_mistake(error)) is None:
            return 0
        where = client.base_url.netloc.decode()
        reason = getattr(cause, "verify_message", "") or cause.reason
        raise SetupError(
            f"what listens at {where} does not show server.tls_certificate, or not a valid one:"
            f" {reason}. Choose another --port, or the settings that it was started with"
        ) from error


def _tls_mistake(error: BaseException | None) -> ssl.SSLError | None:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def _start(arguments: argparse.Namespace) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gateway", "serve", *_passed_on(arguments)]
    command += ["--host", "127.0.0.1", "--port", "0", "--until-stdin-ends"]
    command += ["--set", "server.tls_certificate=", "--set", "server.tls_key="]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env={"LOCKGATE__LOG__LEVEL": "error", **os.environ},
        # Ctrl-C stops an answer, not the server
        start_new_session=os.name == "posix",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the server by the end of its standard input: on Windows a process that is told to
    terminate has no time to clear up."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    try:
        process.wait(_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _passed_on(arguments: argparse.Namespace) -> list[str]:
    options = [word for item in arguments.set for word in ("--set", item)]
    for flag, value in (
        ("--config", arguments.config),
        ("--model", getattr(arguments, "model.name_or_path")),
        ("--engine", getattr(arguments, "engine.name")),
    ):
        if value is not None:
            options += [flag, value]
    return options


def _greeted_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None, "the server is started with a pipe"
    greeting = _URL.search(process.stdout.readline())
    if greeting is None:
        raise SetupError("the server did not start; its message is above")
    return greeting[1]


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    """The server tells a slow start from one that hangs. Raises SetupError once it has given the
    engine up: it would try again, but nobody at a terminal waits for that."""
    while _status(client, "/health/ready") != http.HTTPStatus.OK:
        if process.poll() is not None:
            raise SetupError("the server ended while it loaded the model; its message is above")
        if reason := _why_failed(client):
            raise SetupError(f"the model cannot be served: {reason}")
        time.sleep(_POLL_SECONDS)


def _why_failed(client: httpx.Client) -> str:
    """Why the server has given its engine up; empty if it has not, or does not say."""
    try:
        health = client.get("/health", timeout=CONNECT_TIMEOUT).json()
    except (httpx.HTTPError, ValueError):
        return ""
    return str(health["reason"]) if health.get("state") == "failed" else ""
