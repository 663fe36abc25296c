"""The server and the commands as Windows has them: on it, and in its ways."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from gateway.http.connections.select_loop import MAX_CONNECTIONS
from runtime.processes import is_alive
from tests.kit.command_line import SCRIPTED, lockgate, not_ignored, served, start
from tests.kit.platform import IS_WINDOWS
from tests.kit.raw_http import read_all
from tests.kit.serving import wait_for

pytestmark = pytest.mark.skipif(not IS_WINDOWS, reason="Windows alone")

CTRL_BREAK = signal.CTRL_BREAK_EVENT if sys.platform == "win32" else signal.SIGQUIT
REQUEST = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def children_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers that are started have their temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(folder))
    return folder


@pytest.mark.skipif(os.name == "nt", reason="it would reach the tests' own console")
def test_ctrl_break_lets_running_requests_finish(tmp_path: Path, temporary: Path):
    with not_ignored("SIGQUIT"), served(tmp_path, step_ms=20) as server:
        with server.http.stream(
            "POST", "/v1/chat/completions", json=server.body(max_tokens=60)
        ) as response:
            lines = response.iter_lines()
            next(lines)
            for process in [server.process, *children_of(server.process)]:
                os.kill(process.pid, CTRL_BREAK)  # a console sends it to all
            rest = list(lines)
        assert rest[-2:] == ["data: [DONE]", ""]
        code, _ = server.ended()
    assert code == 0
    assert list(temporary.iterdir()) == []


def test_a_killed_gateway_leaves_no_engine_and_no_files(tmp_path: Path, temporary: Path):
    with served(tmp_path) as server:
        engines = children_of(server.process)
        assert engines
        assert list(temporary.iterdir())
        server.process.kill()
        wait_for(lambda: not any(map(is_alive, engines)))
        wait_for(lambda: not list(temporary.iterdir()))


def test_the_end_of_standard_input_is_an_orderly_end(tmp_path: Path, temporary: Path):
    """Which is how `lockgate chat` ends its server: there is no signal that does."""
    process = start(tmp_path, "serve", *SCRIPTED, "--until-stdin-ends")
    assert process.stdout is not None
    assert "serves" in process.stdout.readline()
    process.communicate()
    assert process.returncode == 0
    assert list(temporary.iterdir()) == []


def test_connections_beyond_what_the_system_can_watch(tmp_path: Path):
    """They are told, the others stay, and there is room again when some have left."""
    assert MAX_CONNECTIONS
    with served(tmp_path, "--set", "server.header_timeout=60") as server, ExitStack() as stack:
        where = urlsplit(str(server.http.base_url))
        address = (where.hostname, where.port)

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection(address, timeout=20))

        clients = [connect() for _ in range(MAX_CONNECTIONS + 150)]
        assert read_all(clients[-1]).startswith(b"HTTP/1.1 503 Service Unavailable")
        clients[0].sendall(REQUEST)
        assert read_all(clients[0]).startswith(b"HTTP/1.1 200 OK")
        for client in clients[1:100]:
            client.close()
        wait_for(lambda: server.is_ready())
        assert server.process.poll() is None


@pytest.mark.parametrize("name", ["狐狸", "ü", "🦊", "─"])
def test_what_the_code_page_lacks_is_printed_as_an_escape(tmp_path: Path, name: str):
    done = lockgate(
        tmp_path,
        "chat",
        "--engine",
        "scripted",
        "--port",
        "0",
        "--message",
        "hi",
        "--set",
        f"engine.scripted.text={name}",
        "--max-tokens",
        "20",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize(
    "name", ["user/repo:Q5_K_M", "a?b", "a|b", "<x>", "con", "aux.gguf", "x.", "C:\\none\\x.gguf"]
)
def test_names_that_no_file_has_are_names_that_are_not_known(tmp_path: Path, name: str):
    done = lockgate(tmp_path, "serve", "--port", "0", "--model", name)
    assert done.returncode == 2
    assert done.stderr.startswith("lockgate: ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
