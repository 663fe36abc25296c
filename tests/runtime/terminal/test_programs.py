"""How programs end, whatever becomes of their streams."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import SetupError
from runtime.terminal.programs import run_program
from runtime.terminal.streams import open_standard_streams
from tests.kit.command_line import environment

PRINTS = """
import sys
from runtime.terminal.console import Console
from runtime.terminal.programs import run_program

def run():
    for number in range({lines}):
        {call}
    return 0

sys.exit(run_program("program", run))
"""
CALLS = ["print('é line', number)", "print(number, flush=True)", "Console().print('é', number)"]

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX streams")


def shell(
    line: str, program: str, passed: tuple[int, ...] = (), **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """The program is `"$0" -c "$1"` in the line."""
    return subprocess.run(
        ["bash", "-c", line, sys.executable, program],
        env=environment(**variables),
        pass_fds=passed,
        capture_output=True,
        check=False,
        timeout=60,
    )


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("lines", [1, 3000])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_one_line(call: str, lines: int, unbuffered: str) -> None:
    program = PRINTS.format(lines=lines, call=call)
    ended = shell('exec "$0" -c "$1" >/dev/full', program, PYTHONUNBUFFERED=unbuffered)
    assert ended.returncode == 2
    assert ended.stderr == b"program: the output cannot be written: No space left on device\n"


@posix
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_no_mistake(call: str, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = PRINTS.format(lines=3, call=call)
    line = f'exec "$0" -c "$1" >&{writing}'
    ended = shell(line, program, passed=(writing,), PYTHONUNBUFFERED=unbuffered)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


@posix
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_lead_nowhere(call: str, closed: str) -> None:
    ended = shell(f'exec "$0" -c "$1" {closed}', PRINTS.format(lines=3, call=call))
    assert (ended.returncode, ended.stderr) == (0, b"")


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_the_code_stays_where_nothing_can_be_said() -> None:
    ended = shell('exec "$0" -c "$1" >/dev/full 2>&1', PRINTS.format(lines=1, call=CALLS[0]))
    assert ended.returncode == 2


@pytest.mark.parametrize("call", [CALLS[0], CALLS[2]])
def test_what_an_encoding_lacks_is_written_as_in_json(call: str) -> None:
    program = PRINTS.format(lines=1, call=call)
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.startswith(b"\\u00e9")


@given(st.text(st.characters(codec=None)))
def test_every_text_is_escaped_so_that_json_has_it_back(text: str) -> None:
    open_standard_streams()
    written = json.dumps(text, ensure_ascii=False).encode("ascii", "lockgate_escapes")
    assert json.loads(written) == text or "\ud800" <= max(text) <= "\udfff" or has_pair(text)


def has_pair(text: str) -> bool:
    """Two surrogates side by side are one character in JSON."""
    return any("\ud800" <= character <= "\udfff" for character in text)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SetupError("two\nlines"), 2, "p: two lines\n"),
        (KeyboardInterrupt(), 130, "p: interrupted\n"),
        (PermissionError(13, "Permission denied", "a/b"), 2, "p: a/b: Permission denied\n"),
        (OSError("no number"), 2, "p: no number\n"),
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
    ],
)
def test_how_it_ends(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    def run() -> int:
        raise error

    assert run_program("p", run) == code
    assert capsys.readouterr() == ("", said)


def test_other_errors_are_not_hidden() -> None:
    def run() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_program("p", run)


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(
    "command",
    [
        "gateway --help",
        "gateway --version",
        "gateway models --help",
        "gateway models",
        "gateway models --json",
        "gateway keys new --name a",
        "gateway plan --model qwen3-8b --gpu rtx-4070",
        "convert --help",
        "convert --version",
    ],
)
def test_every_command_says_that_its_output_is_lost(tmp_path: Path, command: str) -> None:
    words = [sys.executable, "-m", *command.split()]
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            words, cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert ended.returncode == 2
    assert ended.stderr.count(b"\n") == 1
    assert b": the output cannot be written: No space left on device" in ended.stderr
