"""`lockgate serve` in a process of its own, which an admin's key opens."""

import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.kit.answers import HI
from tests.kit.api_keys import bearer
from tests.kit.command_line import SCRIPTED, greeting, start
from tests.kit.serving import PATIENCE, wait_for

ADMIN = "an-admin-key-for-tests"


posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


class Served:
    """`lockgate serve` in a process of its own, which an admin's key opens."""

    def __init__(
        self, process: "subprocess.Popen[str]", url: str, verify: ssl.SSLContext | bool
    ) -> None:
        self.process = process
        self.http = httpx.Client(
            base_url=url, headers=bearer(ADMIN), timeout=PATIENCE, verify=verify
        )

    def body(self, max_tokens: int) -> dict[str, object]:
        body = {"model": "scripted", "messages": HI, "max_tokens": max_tokens, "stream": True}
        return {**body, "stream_options": {"include_usage": True}}

    def is_ready(self) -> bool:
        return self.http.get("/health/ready").status_code == 200

    def ended(self) -> tuple[int, str]:
        """Exit code and log, when it has ended."""
        _, log = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, log


@contextmanager
def served(
    folder: Path, *options: str, step_ms: float = 10, verify: ssl.SSLContext | bool = True
) -> Iterator[Served]:
    settings = ("--set", f"engine.scripted.step_ms={step_ms}", *options)
    process = start(folder, "serve", *SCRIPTED, *settings, LOCKGATE_ADMIN_API_KEY=ADMIN)
    try:
        url = re.findall(r"https?://\S+:\d+", greeting(process))[0]
        server = Served(process, url, verify)
        with server.http:
            wait_for(server.is_ready)
            yield server
    finally:
        process.kill()
        process.communicate()
