"""The server that `lockgate chat` talks to.

It is the one that runs at the address of the settings. When none does, it is a process of its own.
"""

import argparse
import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from gateway.commands.models_on_disk import ensure_model
from gateway.settings.schema import Settings
from runtime.errors import SetupError

CONNECT_TIMEOUT = 2.0
"""Seconds for a connection, and for an answer that takes no work."""

_POLL_SECONDS = 0.1
_URL = re.compile(r"http://(?P<host>\S+):(?P<port>\d+)/v1\b")
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Address(Struct, frozen=True):
    """Where a server listens."""

    host: str
    port: int

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        """A connection that is opened by its first request."""
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def status_of(self, path: str) -> int:
        """The status that the server answers with, 0 when there is no server."""
        connection = self.connect(CONNECT_TIMEOUT)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


@contextmanager
def server_for(arguments: argparse.Namespace, settings: Settings) -> Iterator[Address]:
    """A server that is ready: the one that runs, else one that lives as long as the block."""
    host = _EVERY_ADDRESS.get(settings.server.host, settings.server.host)
    address = Address(host, settings.server.port)
    if settings.server.port and address.status_of("/health/live"):
        yield address
        return
    if settings.engine.name == "llama_cpp":
        ensure_model(settings)
    process = _start(arguments)
    try:
        yield _wait_until_ready(process, settings.engine.start_timeout)
    finally:
        process.terminate()
        process.communicate()


def _start(arguments: argparse.Namespace) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gateway", "serve", *_passed_on(arguments)]
    command += ["--host", "127.0.0.1", "--port", "0", "--until-stdin-ends"]
    command += ["--set", "server.tls_certificate=", "--set", "server.tls_key="]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"LOCKGATE__LOG__LEVEL": "error", **os.environ},
        # Ctrl-C stops an answer, not the server
        start_new_session=os.name == "posix",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


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


def _wait_until_ready(process: subprocess.Popen[str], timeout: float) -> Address:
    assert process.stdout is not None, "the server is started with a pipe"
    greeting = _URL.search(process.stdout.readline())
    if greeting is None:
        raise SetupError("the server did not start; its message is above")
    address = Address(greeting["host"], int(greeting["port"]))
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if address.status_of("/health/ready") == http.HTTPStatus.OK:
            return address
        if process.poll() is not None:
            raise SetupError("the server ended while it loaded the model; its message is above")
        time.sleep(_POLL_SECONDS)
    raise SetupError(f"the model was not loaded within {timeout:g} seconds")
