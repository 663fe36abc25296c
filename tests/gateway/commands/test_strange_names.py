"""Files whose names are no text, and things in the place of a model that are no files: a server
that starts or one line on stderr, and nothing else."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.settings.loader import load_settings
from runtime.errors import ModelFileError, SetupError
from runtime.models.store import ModelStore
from tests.kit.command_line import environment, lockgate
from tests.kit.models.tiny_model import write_tiny_model

pytestmark = [
    pytest.mark.usefixtures("own_folder"),
    pytest.mark.posix("names of files that are bytes"),
    pytest.mark.skipif(sys.platform != "linux", reason="names of files that are bytes"),
]

NO_TEXT = b"caf\xe9"


def ended(folder: Path, *arguments: bytes, **variables: bytes) -> tuple[int, str]:
    """Exit code and stderr of a command, whose words are bytes."""
    env = {**environment(), **{key: os.fsdecode(value) for key, value in variables.items()}}
    answer = subprocess.run(
        [sys.executable, "-m", "gateway", *(os.fsdecode(word) for word in arguments)],
        cwd=folder,
        env=env,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return answer.returncode, answer.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        ([b"serve", b"--model", NO_TEXT + b".gguf"], {}),
        ([b"serve", b"--model", NO_TEXT + b"/m.gguf"], {}),
        ([b"serve", b"--set", b"model.name_or_path=./" + NO_TEXT], {}),
        ([b"serve", b"--config", NO_TEXT], {}),
        ([b"serve", b"--set", b"auth.keys_file=" + NO_TEXT], {}),
        ([b"serve"], {"LOCKGATE__MODEL__NAME_OR_PATH": NO_TEXT}),
        ([b"serve"], {"LOCKGATE_CONFIG": NO_TEXT}),
        ([b"serve"], {"LOCKGATE_MODELS": NO_TEXT}),
        ([b"chat", b"--model", NO_TEXT + b".gguf"], {}),
        ([b"pull", NO_TEXT], {}),
    ],
)
def test_bytes_that_are_no_text_are_one_line(
    tmp_path: Path, arguments: list[bytes], variables: dict[str, bytes]
) -> None:
    model = write_tiny_model(tmp_path / "plain.gguf")  # whoever logs its name logs a text
    model.rename(tmp_path / os.fsdecode(NO_TEXT + b".gguf"))
    status, errors = ended(tmp_path, *arguments, **variables)
    assert status == 2
    assert errors.count("\n") == 1
    assert "caf\\xe9" in errors or "caf\\udce9" in errors
    assert "Traceback" not in errors


def made_pipe(path: Path) -> None:
    os.mkfifo(path)


def made_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def made_loop(path: Path) -> None:
    path.symlink_to(path)


def made_link_to_a_pipe(path: Path) -> None:
    made_pipe(path.with_name("pipe"))
    path.symlink_to("pipe")


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("m") / "model.gguf"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (made_pipe, "is not a file but a pipe"),
        (made_link_to_a_pipe, "is not a file but a pipe"),
        (made_socket, "is not a file but a socket"),
        (made_loop, "Too many levels of symbolic links"),
        (Path.mkdir, "is a folder without a config.json"),
        (Path.touch, "is not a GGUF file"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a file but a device"),
    ],
)
def test_what_is_no_file_is_named(model: Path, make: Callable[[Path], None], words: str) -> None:
    """In no time: a pipe nobody writes to would be read for ever."""
    make(model)
    with pytest.raises(ModelFileError, match=words):
        ModelStore().find(str(model))


@pytest.mark.parametrize("name", ["new\nline", "größe ✓", "'quoted\"", "a" * 240, "%s {0}", "-x"])
def test_every_name_that_is_text_is_taken(model: Path, name: str) -> None:
    file = write_tiny_model(model.with_name(f"{name}.gguf"))
    assert ModelStore().find(str(file)).name == name


def test_pipe_as_a_model_is_one_line(tmp_path: Path) -> None:
    made_pipe(tmp_path / "pipe.gguf")
    answer = lockgate(tmp_path, "serve", "--model", "pipe.gguf", "--port", "0")
    assert answer.returncode == 2
    assert answer.stderr == "lockgate: pipe.gguf is not a file but a pipe\n"


@pytest.mark.parametrize(
    "setting",
    [
        'model.name_or_path = "a\\u0000b.gguf"',
        'model.folder = "\\u0000"',
        'auth.keys_file = "a\\u0000"',
        'server.tls_certificate = "\\u0000a"',
        'server.allowed_hosts = ["a", "\\u0000"]',
        'model.aliases = {x = "\\u0000"}',
    ],
)
def test_zero_characters_are_refused_with_their_setting(tmp_path: Path, setting: str) -> None:
    (tmp_path / "zero.toml").write_text(setting)
    with pytest.raises(SetupError, match=setting.split(" ")[0].replace(".", r"\.")):
        load_settings(str(tmp_path / "zero.toml"), environ={})
