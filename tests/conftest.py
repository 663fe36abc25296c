"""Fixtures that several test modules share."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from runtime.structured.grammars import GrammarCompiler
from tests.kit.command_line import end_what_was_left
from tests.kit.engines import needs_llama_library
from tests.kit.grammars import TOKENIZER
from tests.kit.models.tiny_model import write_tiny_model
from tests.kit.platform import IS_WINDOWS
from tests.kit.serving import RunningServer, running_server, tiny_settings

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

DEFAULT_MODEL_FILE = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"


def pytest_configure(config: pytest.Config) -> None:
    """What servers remember is not kept among the data of the one who runs the tests. Processes of
    tests inherit it."""
    folder = tempfile.TemporaryDirectory(prefix="lockgate-tests-", ignore_cleanup_errors=True)
    os.environ["LOCKGATE_DATA"] = folder.name
    config.add_cleanup(folder.cleanup)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out what needs POSIX where there is none."""
    for item in items if IS_WINDOWS else ():
        if (marker := item.get_closest_marker("posix")) is not None:
            item.add_marker(pytest.mark.skip(reason=f"POSIX: {marker.args[0]}"))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Commands that a failed test leaves running do not hold up or disturb the others."""
    yield
    end_what_was_left()


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio, which is what the server runs on."""
    return "asyncio"


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings and no models of the one who runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.upper().startswith("LOCKGATE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LOCKGATE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("LOCKGATE_DATA", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def compiler() -> Iterator[GrammarCompiler]:
    """Of grammars in the scripted engine's vocabulary."""
    compiler = GrammarCompiler(TOKENIZER)
    yield compiler
    compiler.close()


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of a few hundred kilobytes that llama.cpp loads."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def tiny_server(tiny_model_path: Path) -> Iterator[RunningServer]:
    """It serves that model, whose weights are random: only grammars hold it to anything."""
    needs_llama_library()
    with running_server(tiny_settings(), model_path=str(tiny_model_path)) as running:
        yield running


@pytest.fixture(scope="session")
def default_model_path() -> Path:
    """The default model's file; tests that want it are skipped where it has not been pulled."""
    folder = Path(os.environ.get("LOCKGATE_MODELS") or Path.home() / ".cache/lockgate/models")
    path = folder / DEFAULT_MODEL_FILE
    if not path.is_file():
        pytest.skip("the default model has not been pulled: lockgate pull")
    return path
