"""`lockgate chat`: a process that talks to a server, which it starts itself where none runs."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.kit.command_line import SCRIPTED, greeting, lockgate, start
from tests.kit.models.hf_folders import byte_level, write_folder

CHAT = ("chat", *SCRIPTED, "--set", "engine.scripted.text=abc")


def test_chat_answers_one_message_with_any_tokenizer(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny-hf", byte_level(["the quick brown fox"], None))
    for tokenizer in ((), ("--set", f"model.tokenizer={folder}")):
        answer = lockgate(tmp_path, *CHAT, *tokenizer, "--message", "hello", "--max-tokens", "6")
        assert (answer.returncode, answer.stderr) == (0, "")
        assert re.fullmatch("[abc]{6}\n", answer.stdout)


def test_chat_reports_a_refusal(tmp_path: Path) -> None:
    answer = lockgate(tmp_path, *CHAT, "--message", "hello", "--max-tokens", "0")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("lockgate: ")
    assert "`--max-tokens` is 0" in answer.stderr


def test_chat_holds_a_conversation(tmp_path: Path) -> None:
    typed = "hello\n/what\n/reset\n\nhello again\n/exit\nnever read\n"
    answer = lockgate(tmp_path, *CHAT, "--max-tokens", "6", typed=typed)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("scripted. /reset forgets")
    assert len(re.findall("> [abc]{6}\n", answer.stdout)) == 2
    assert answer.stdout.count("/exit leaves") == 2


def test_chat_ends_with_its_input(tmp_path: Path) -> None:
    answer = lockgate(tmp_path, *CHAT, typed="")
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_interrupt_stops_the_answer_and_not_the_conversation(tmp_path: Path) -> None:
    process = start(tmp_path, *CHAT, "--set", "engine.scripted.step_ms=20")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("hello\n")
    process.stdin.flush()
    assert greeting(process)
    assert process.stdout.read(6)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate("/exit\n", timeout=60)
    assert " (stopped)\n> " in output
    assert (errors, process.returncode) == ("", 0)


def test_chat_uses_the_server_that_runs(tmp_path: Path) -> None:
    server = start(tmp_path, "serve", *SCRIPTED, "--until-stdin-ends", LOCKGATE__LOG__LEVEL="error")
    port = re.findall(r":(\d+)/v1", greeting(server))[0]
    other = lockgate(tmp_path, "chat", "--port", port, "--model", "other", "--message", "hello")
    server.communicate()
    assert (other.returncode, other.stdout) == (2, "")
    assert "serves scripted, not other" in other.stderr
