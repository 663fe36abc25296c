"""What systemd hears: from the class, and from a server of its own process."""

import os
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from gateway.observability.service_manager import ServiceManager, find_service_manager
from tests.kit.command_line import SCRIPTED, end_what_was_left, greeting, start
from tests.kit.serving import PATIENCE

pytestmark = pytest.mark.posix("systemd's sockets")

abstract = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets of Linux")


class Listener:
    """The manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(PATIENCE)
        self.socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)

    def next(self) -> str:
        return self.socket.recv(4096).decode()

    def until(self, beginning: str) -> str:
        """The next message that begins so. Times out if there is none."""
        while not (message := self.next()).startswith(beginning):
            continue
        return message

    def is_silent(self) -> bool:
        self.socket.setblocking(False)
        try:
            return not self.socket.recv(4096)
        except BlockingIOError:
            return True


@pytest.fixture(params=["path", pytest.param("abstract", marks=abstract)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "abstract":
        return f"@lockgate-test-{uuid.uuid4()}"
    return str(tmp_path / "s")


@pytest.fixture
def listener(address: str) -> Iterator[Listener]:
    listener = Listener(address)
    with listener.socket:
        yield listener


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    end_what_was_left()


def test_a_server_tells_of_its_life(listener: Listener, address: str, tmp_path: Path) -> None:
    watchdog = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"}
    process = start(tmp_path, "serve", *SCRIPTED, **watchdog)
    assert listener.next() == "READY=1"
    assert "serves" in greeting(process)
    listener.until("STATUS=Engine ready.")
    [engine] = psutil.Process(process.pid).children()
    assert not watchdog.keys() & engine.environ().keys()
    assert [listener.until("WATCHDOG=1") for _ in range(3)]
    process.send_signal(signal.SIGTERM)
    listener.until("STOPPING=1")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "service_manager_not_told" not in errors


@pytest.mark.slow
def test_a_server_whose_loop_is_held_gives_no_sign(
    listener: Listener, address: str, tmp_path: Path
) -> None:
    process = start(tmp_path, "serve", *SCRIPTED, NOTIFY_SOCKET=address, WATCHDOG_USEC="30000")
    listener.until("WATCHDOG=1")
    process.send_signal(signal.SIGSTOP)
    listener.socket.settimeout(0.5)  # sixteen times as long as the watchdog waits
    with pytest.raises(TimeoutError):
        listener.until("nothing that is ever sent")
    process.send_signal(signal.SIGCONT)
    listener.until("WATCHDOG=1")
    process.terminate()
    process.communicate(timeout=PATIENCE)


def test_state_is_told_when_it_changes(listener: Listener, address: str) -> None:
    manager = find_service_manager({"NOTIFY_SOCKET": address})
    for status in ("Engine starting.", "Engine starting.", "Engine\nready.", "Engine ready."):
        manager.alive(status)
    assert [listener.next(), listener.next()] == [
        "STATUS=Engine starting.",
        "STATUS=Engine ready.",
    ]
    assert listener.is_silent()


def test_watchdog_of_another_process_is_not_fed(listener: Listener, address: str) -> None:
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    find_service_manager(environ).alive("")
    assert listener.is_silent()


def test_own_watchdog_is_fed_at_its_pace(listener: Listener, address: str) -> None:
    environ = {
        "NOTIFY_SOCKET": address,
        "WATCHDOG_USEC": "60000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    manager = find_service_manager(environ)
    manager.alive("")
    manager.alive("")
    assert listener.next() == "WATCHDOG=1"
    assert listener.is_silent()
    assert not environ


@pytest.mark.parametrize("named", ["", "vsock:2:1234", "relative/path", "\0hidden"])
def test_no_manager_hears_nothing(named: str) -> None:
    with capture_logs() as logs:
        manager = find_service_manager({"NOTIFY_SOCKET": named, "WATCHDOG_USEC": "soon"})
        manager.ready()
        manager.alive("Engine ready.")
        manager.stopping()
    assert logs == []


def test_manager_that_is_gone_is_a_line_in_the_log(tmp_path: Path) -> None:
    with capture_logs() as logs:
        ServiceManager(str(tmp_path / "gone")).ready()
    assert [line["event"] for line in logs] == ["service_manager_not_told"]
