"""The command line: what it prints, and how it ends."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.__main__ import main
from gateway.commands.serving.address import bind
from gateway.settings.schema import ServerSettings
from runtime.errors import SetupError
from runtime.version import __version__
from tests.kit.command_line import (
    SCRIPTED,
    environment,
    greeting,
    lockgate,
    not_ignored,
    start,
)
from tests.kit.serving import wait_for

pytestmark = pytest.mark.usefixtures("own_folder")

NAMES = ["qwen2.5-coder-0.5b-instruct", "gemma-3-270m"]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        yield holder.getsockname()[1]


def test_busy_port_is_one_line_and_exit_code_2(tmp_path: Path, taken_port: int) -> None:
    answer = lockgate(tmp_path, "serve", "--engine", "scripted", "--port", str(taken_port))
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr == (
        f"lockgate: cannot listen on 127.0.0.1 port {taken_port}: address already in use. "
        "Stop what uses it, or choose another port with --port\n"
    )


MISTAKES = [
    (("serve", "--model", "no/such.gguf"), "there is no model file no/such.gguf"),
    (("serve", "--model", "."), "is a folder without a config.json; name the .gguf file in it"),
    (("serve", "--model", "qwen"), "no model named 'qwen'. Did you mean qwen2.5-coder-0.5b-inst"),
    (("serve", "--port", "x"), "--port: $.server.port: expected a whole number, got 'x'"),
    (("serve", "--engine", "vllm"), "--engine: $.engine.name: expected 'llama_cpp' or 'scripted'"),
    (("serve", "--config", "none.toml"), "the settings file none.toml cannot be read: "),
    (("serve", "--set", "server.prot=1"), "$.server.prot is not a setting; did you mean port?"),
    (("serve", "--set", "server"), "--set server: write it as SECTION.KEY=VALUE"),
    (("serve", "--set", "model.tokenizer=x"), "model.tokenizer is for the scripted engine alone"),
    (("serve", *SCRIPTED, "--set", "model.tokenizer=x"), "there is no model named 'x'"),
    (
        ("serve", *SCRIPTED, "--set", f"model.tokenizer={NAMES[1]}"),
        "model.tokenizer: pull it first with: lockgate pull gemma-3-270m",
    ),
    (("serve", "--host", "host.invalid", "--engine", "scripted"), "host.invalid is not an address"),
    (("serve", "--prot", "1"), "unrecognized arguments: --prot 1 (see: lockgate --help)"),
    (("pull", "nope"), "there is no model named 'nope'. Known names: " + ", ".join(NAMES)),
    (("pull",), "the following arguments are required: NAME (see: lockgate pull --help)"),
    (("chat", "--port", "0", "--model", "nope"), "there is no model named 'nope'"),
    (("sreve",), "argument COMMAND: invalid choice: 'sreve'"),
    ((), "the following arguments are required: COMMAND (see: lockgate --help)"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistake_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("lockgate: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_bad_setting_in_a_variable_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCKGATE__ENGINE__MAX_SEQS", "4")
    assert main(["serve"]) == 2
    assert capsys.readouterr().err == (
        "lockgate: LOCKGATE__ENGINE__MAX_SEQS: $.engine.max_seqs is not a setting; "
        "did you mean max_num_seqs?\n"
    )


def test_file_that_is_no_model_stops_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.gguf").write_text("no model")
    assert main(["serve", "--port", "0", "--model", "text.gguf"]) == 2
    assert capsys.readouterr().err == "lockgate: text.gguf is not a GGUF file\n"


LIBRARIES = [
    ("/no/such/libllama.so", "The library /no/such/libllama.so cannot be read: No such file"),
    ("ik", "The library ik cannot be read: No such file or directory. Known by name are ik_llama"),
    pytest.param(
        __file__,
        f"The library {__file__} cannot be loaded: ",
        marks=pytest.mark.posix("Linux loads no library of Windows"),
    ),
]


@pytest.mark.parametrize(("library", "message"), LIBRARIES)
def test_an_unusable_library_stops_the_start(
    tiny_model_path: Path, capsys: pytest.CaptureFixture[str], library: str, message: str
) -> None:
    wish = f"engine.llama_cpp.library={library}"
    assert main(["serve", "--port", "0", "--model", str(tiny_model_path), "--set", wish]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"lockgate: engine.llama_cpp.library: {message}")
    assert error.count("\n") == 1


@pytest.mark.posix("errors")
def test_place_where_one_may_not_look_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root may look everywhere, but nobody under a name that is too long."""
    long = "x" * 300
    assert main(["serve", "--port", "0", "--model", f"{long}.gguf"]) == 2
    assert capsys.readouterr().err == f"lockgate: {long}.gguf cannot be read: File name too long\n"
    assert main(["serve", "--port", "0", "--set", f"model.folder={long}"]) == 2
    assert "cannot be read: File name too long\n" in capsys.readouterr().err


def test_engine_and_kind_of_model_must_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tiny-hf"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for command in ("serve", "chat"):
        assert main([command, "--port", "0", "--model", "tiny-hf"]) == 2
        assert capsys.readouterr().err == (
            "lockgate: model.name_or_path: tiny-hf is a Hugging Face checkpoint folder, and the"
            " engine llama_cpp needs a .gguf file. Name one, or choose another engine with"
            " --engine tensorrt_llm\n"
        )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"lockgate {__version__}\n"


def test_a_command_line_loads_no_http_client() -> None:
    program = "import sys, gateway.__main__; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env=environment()).returncode == 0


def test_chat_does_not_wait_for_a_server_that_has_given_its_engine_up(tmp_path: Path) -> None:
    empty = tmp_path / "empty.gguf"
    empty.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    words = ("chat", *SCRIPTED, "--message", "hi", "--set", f"model.tokenizer={empty}")
    ended = lockgate(tmp_path, *words)
    assert ended.returncode == 2
    assert "lockgate: the model cannot be served: " in ended.stderr
    assert "there is no vocabulary" in ended.stderr


@pytest.mark.parametrize("command", ["serve", "pull", "models", "chat", "plan", "doctor"])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "--config PATH" in capsys.readouterr().out


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gateway.settings.source.load_settings", interrupt)
    assert main(["models"]) == 130


def test_models_lists_the_catalogue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "size", "licence", "state", "path"]
    assert [row.split()[0] for row in rows] == NAMES
    assert all("absent" in row and str(tmp_path / "models") in row for row in rows)
    assert "491 MB" in rows[0]


def test_models_sees_a_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "gemma-3-270m-q4_k_m.gguf").write_text("too short")
    assert main(["models", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["state"]) for row in rows] == [
        (NAMES[0], "absent"),
        (NAMES[1], "damaged"),
    ]


def test_models_trusts_the_size_until_it_is_told_to_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    with (tmp_path / "models" / "gemma-3-270m-q4_k_m.gguf").open("wb") as file:
        file.truncate(253_113_024)
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1]["state"] == "present"
    assert main(["models", "--json", "--verify"]) == 1
    row = json.loads(capsys.readouterr().out)[1]
    assert row["state"] == "damaged"
    assert len(row["sha256"]) == 64
    assert main(["models", "--verify"]) == 1
    [verdict] = [line for line in capsys.readouterr().out.splitlines() if "SHA-256" in line]
    assert row["sha256"] in verdict
    assert "lockgate pull gemma-3-270m" in verdict


def test_missing_engine_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve", "--port", "0"]) == 2
    assert "pip install 'lockgate[cpu]'" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_bind_takes_a_free_port(host: str) -> None:
    with bind(ServerSettings(host=host, port=0)) as listener:
        assert listener.getsockname()[1] > 0


def test_address_of_another_machine_cannot_be_bound() -> None:
    # 192.0.2.0/24 is set aside for documentation: no machine has such an address
    with pytest.raises(SetupError, match=r"cannot listen on 192\.0\.2\.1 port 0: "):
        bind(ServerSettings(host="192.0.2.1", port=0))


@pytest.mark.posix("signals")
@pytest.mark.parametrize("number", [1, signal.SIGTERM, signal.SIGINT], ids=["HUP", "TERM", "INT"])
def test_serve_says_where_and_ends_well_when_told_to(tmp_path: Path, number: int) -> None:
    with not_ignored("SIGHUP"):
        process = start(tmp_path, "serve", *SCRIPTED, LOCKGATE__LOG__LEVEL="error")
    line = greeting(process)
    process.send_signal(number)
    output, errors = process.communicate()
    assert re.fullmatch(r"Lockgate \S+ serves scripted at http://127\.0\.0\.1:\d+/v1 .*\n", line)
    assert (output, errors, process.returncode) == ("", "", 0)


@pytest.mark.slow
@pytest.mark.posix("signals")
def test_nohup_is_respected(tmp_path: Path, free_port: int) -> None:
    serve = f'exec "$0" -m gateway serve --engine scripted --port {free_port} >/dev/null 2>&1'
    command = ["sh", "-c", f'trap "" HUP; {serve}', sys.executable]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment())
    wait_for(lambda: process.poll() is not None or is_ready(free_port))
    process.send_signal(signal.SIGHUP)
    assert serves_until_it_is_told_to_end(process, free_port)


@pytest.mark.slow
@pytest.mark.posix("signals")
def test_second_signal_ends_a_stream_with_an_error_that_is_no_failure(
    tmp_path: Path, free_port: int
) -> None:
    slow = ("--set", "engine.scripted.step_ms=20")
    process = start(tmp_path, "serve", "--engine", "scripted", "--port", str(free_port), *slow)
    wait_for(lambda: is_ready(free_port))
    body = {"model": "scripted", "prompt": "a", "max_tokens": 10_000, "stream": True}
    url = f"http://127.0.0.1:{free_port}"
    with httpx.stream("POST", f"{url}/v1/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        process.terminate()
        wait_for(lambda: not is_ready(free_port))
        process.terminate()
        [error] = [line for line in lines if '"error"' in line]
    process.communicate()

    assert '"code":"engine_unavailable"' in error
    assert process.returncode == 0


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        return int(holder.getsockname()[1])


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("streams", [">/dev/full 2>/dev/full", "<&- >&- 2>&-", "2>&-"])
def test_serve_goes_on_where_nothing_can_be_written(
    tmp_path: Path, free_port: int, streams: str
) -> None:
    line = f'exec "$0" -m gateway serve --engine scripted --port {free_port} {streams}'
    command = ["sh", "-c", line, sys.executable]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment())
    assert serves_until_it_is_told_to_end(process, free_port)


@pytest.mark.slow
@pytest.mark.posix("signals")
def test_serve_goes_on_when_the_readers_of_its_output_leave(tmp_path: Path, free_port: int) -> None:
    process = start(tmp_path, "serve", "--engine", "scripted", "--port", str(free_port))
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    assert serves_until_it_is_told_to_end(process, free_port)


@pytest.mark.slow
@pytest.mark.posix("limits")
@pytest.mark.parametrize(
    ("limit", "are_all_served"), [("-Sn", True), ("-n", False)], ids=["soft", "hard"]
)
def test_more_connections_than_descriptors(
    tmp_path: Path, free_port: int, limit: str, are_all_served: bool
) -> None:
    """A soft limit is raised; a hard one costs connections, and nothing when they are gone."""
    serve = f'exec "$0" -m gateway serve --engine scripted --port {free_port} >/dev/null 2>&1'
    command = ["sh", "-c", f"ulimit {limit} 64; {serve}", sys.executable]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment())
    wait_for(lambda: process.poll() is not None or is_ready(free_port))
    with contextlib.ExitStack() as stack:
        crowd = [
            stack.enter_context(socket.create_connection(("127.0.0.1", free_port), 5))
            for _ in range(100)
        ]
        served = sum(is_answered(connection) for connection in crowd)
    assert served > 0
    assert (served == len(crowd)) == are_all_served
    assert serves_until_it_is_told_to_end(process, free_port)


def is_answered(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return b" 200 " in connection.recv(4096)
    except OSError:
        return False


def serves_until_it_is_told_to_end(process: subprocess.Popen[Any], port: int) -> bool:
    try:
        wait_for(lambda: process.poll() is not None or is_ready(port))
        return process.poll() is None
    finally:
        process.terminate()
        assert process.wait() == 0


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_serve_ends_with_its_stdin_when_asked_to(tmp_path: Path) -> None:
    process = start(tmp_path, "serve", *SCRIPTED, "--until-stdin-ends")
    assert greeting(process)
    process.communicate()
    assert process.returncode == 0
