"""`lockgate pull`, `list`, `show`, `rm` and `search`, as a user and as a script see them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.__main__ import main
from gateway.models.pulls import wanted
from tests.kit.command_line import greeting, start
from tests.kit.hub.environment import hub_of
from tests.kit.hub.server import FakeHub, Fault
from tests.kit.models.packed_folders import plain_source
from tests.kit.models.split import split_gguf
from tests.kit.models.tiny_model import write_tiny_model

Run = Callable[..., tuple[int, str, str]]
GGUF_FACTS: dict[str, object] = {"total": 600_000_000, "architecture": "qwen2"}

hub = pytest.fixture(hub_of)
pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def model(tiny_model_path: Path) -> bytes:
    return tiny_model_path.read_bytes()


@pytest.fixture
def run(hub: FakeHub, capsys: pytest.CaptureFixture[str], model: bytes) -> Run:
    """Runs a command, with a small repository on the hub."""
    files = {f"m-{kind}.gguf": model + kind.encode() for kind in ("Q4_K_M", "Q8_0")}
    files["mmproj-F16.gguf"] = model
    hub.add("u/r", files, gguf=GGUF_FACTS, downloads=5)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def answer(run: Run, *arguments: str) -> Any:
    code, output, _ = run(*arguments, "--json")
    assert code == 0
    return json.loads(output)


def test_what_is_pulled_is_listed_shown_and_removed(run: Run):
    code, output, errors = run("pull", "u/r:q8_0")
    path = output.strip()
    assert (code, errors.startswith("Pulling u/r:q8_0 into ")) == (0, True)
    (row,) = answer(run, "list")
    assert (row["name"], row["path"], row["place"]) == ("u/r:Q8_0", path, "hub")
    card = answer(run, "show", "u/r:Q8_0")
    assert (card["path"], card["architecture"], card["context"]) == (path, "llama", 2048)
    assert (card["quantisation"], card["chat_template"]) == ("Q8_0", True)
    assert {"completions", "chat"} <= set(card["capabilities"])
    code, output, _ = run("rm", "--yes", "u/r:Q8_0")
    assert (code, output) == (0, "u/r/m-Q8_0.gguf: frees 0.6 MB\n")
    assert answer(run, "list") == []
    assert run("list")[1].startswith("There are no models")


def test_tables_have_every_model_on_a_line_of_its_own(run: Run):
    run("pull", "u/r")
    lines = run("list")[1].splitlines()
    assert lines[0].split() == ["name", "size", "quantisation", "last", "used", "where"]
    assert re.match(r"u/r:Q4_K_M +0\.6 MB +Q4_K_M +just now +hub", lines[1])
    shown = dict(
        re.split(r"  +", line.strip(), maxsplit=1) for line in run("show", "u/r")[1].splitlines()
    )
    assert shown["context"] == "2,048 tokens"
    assert "fits here" in shown["memory"]


def test_a_model_that_is_not_here_is_shown_as_the_hub_tells_it(run: Run, hub: FakeHub):
    card = answer(run, "show", "u/r")
    assert (card["is_present"], card["path"], card["licence"]) == (False, "", "apache-2.0")
    assert (card["parameters"], card["architecture"]) == (600_000_000, "qwen2")
    assert hub.downloads() == []
    assert "fetch it with: lockgate pull u/r" in run("show", "u/r")[1]


def test_a_checkpoint_folder_is_shown(run: Run, hub: FakeHub, tmp_path: Path):
    folder = plain_source(tmp_path / "folder", "llama")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    files["README.md"] = b"---\nlicense: mit\n---\n"
    hub.add("u/folder", files)
    assert run("pull", "u/folder")[0] == 0
    card = answer(run, "show", "u/folder")
    size = (folder / "model.safetensors").stat().st_size
    assert (card["form"], card["licence"], card["size"]) == ("folder", "mit", size)


def test_search_says_what_runs_here(run: Run, hub: FakeHub, monkeypatch: pytest.MonkeyPatch):
    hub.add("v/r-large", {"m-Q8_0.gguf": b"GGUF"}, downloads=9, licence="mit", is_gated=True)
    hub.repositories["v/r-large"].listed_sizes["m-Q8_0.gguf"] = 10**12
    hub.add("w/r-empty", {"README.md": b""}, downloads=1)
    large, small, empty = answer(run, "search", "r")
    assert (large["name"], large["fits"], large["is_gated"]) == ("v/r-large", False, True)
    assert (small["name"], small["quantisation"], small["fits"]) == ("u/r", "Q4_K_M", True)
    assert "no .gguf file" in empty["problem"]
    lines = run("search", "r", "--limit", "2")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["name", "v/r-large", "u/r"]
    assert re.search(r"1,000\.0 GB +no +mit, gated +9$", lines[1].rstrip())
    assert run("search", "nothing")[1].startswith("The hub has no model")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pull", "u/r:Q5_K_M"), "It has: Q4_K_M, Q8_0"),
        (("pull", "u/r/mmproj-F16.gguf"), "the projector of a model"),
        (("pull", "u/none"), "no repository u/none"),
        (("pull", "--offline", "u/r"), "nothing is downloaded offline"),
        (("pull", "nothing"), "no model named 'nothing'"),
        (("show", "u/none"), "no repository u/none"),
        (("show", "gemma-3-270m"), "lockgate pull gemma-3-270m"),
        (("rm", "--yes", "u/r"), "u/r is not in"),
        (("rm", "--yes", "/etc/none.gguf"), "no model file /etc/none.gguf"),
        (("search", "r", "--set", "model.offline=true"), "not searched offline"),
        (("search", "r", "--limit", "0"), "--limit"),
        (("search", ""), "say which words"),
        (("serve", "--port", "0", "--model", "u/none"), "no repository u/none"),
        (("serve", "--port", "0", "--model", "u/r/a.bin"), "is a pickle"),
        (("serve", "--port", "0", "--offline", "--model", "u/r"), "nothing is downloaded offline"),
    ],
)
def test_a_mistake_is_one_line(run: Run, arguments: tuple[str, ...], words: str):
    code, _, errors = run(*arguments)
    assert code == 2
    assert words in errors.splitlines()[-1]
    assert "Traceback" not in errors


def test_a_file_on_the_disk_need_not_be_pulled(run: Run, tiny_model_path: Path, hub: FakeHub):
    code, output, _ = run("pull", str(tiny_model_path))
    assert (code, output) == (0, f"{tiny_model_path}\n")
    assert hub.requests == []


def test_rm_asks_and_takes_no_for_an_answer(run: Run, monkeypatch: pytest.MonkeyPatch):
    run("pull", "u/r")
    assert "say --yes" in run("rm", "u/r")[2]
    for typed, code in (("", 1), ("n\n", 1), ("yes\n", 0)):
        monkeypatch.setattr("sys.stdin", _Typed(typed))
        assert run("rm", "u/r")[0] == code
        assert (answer(run, "list") == []) is (code == 0)


class _Typed:
    """A terminal in which that was typed."""

    def __init__(self, text: str) -> None:
        self.text = text

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.text


def test_what_is_too_large_is_refused_and_can_be_had_all_the_same(
    run: Run, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(wanted, "memory_for_models", lambda num_gpu_layers: 1_000_000)
    for arguments in (("pull", "u/r"), ("serve", "--port", "0", "--model", "u/r")):
        code, _, errors = run(*arguments)
        assert code == 2
        assert "lockgate pull --any-size" in errors
    assert hub.downloads() == []
    assert run("pull", "--any-size", "u/r")[0] == 0


def test_a_model_of_the_hub_is_pulled_and_served_under_its_name(
    run: Run, hub: FakeHub, tmp_path: Path
):
    process = start(
        tmp_path,
        "serve",
        "--port",
        "0",
        "--model",
        "u/r:Q8_0",
        LOCKGATE_MODELS=str(tmp_path / "models"),
    )
    try:
        assert "serves u/r:Q8_0 at http" in greeting(process)
    finally:
        process.kill()
        process.communicate()
    assert [row["name"] for row in answer(run, "list")] == ["u/r:Q8_0"]
    del hub


def test_a_broken_download_is_resumed_by_the_next_pull(run: Run, hub: FakeHub, model: bytes):
    hub.faults = [Fault("/store/", cut_at=1_000), Fault("/store/", times=100, cut_at=0)]
    assert run("pull", "u/r")[0] == 2
    hub.faults, hub.requests = [], []
    assert run("pull", "u/r")[0] == 0
    assert hub.downloads()[0].byte_range == "bytes=1000-"
    assert Path(run("pull", "u/r")[1].strip()).read_bytes() == model + b"Q4_K_M"


def test_a_split_model_is_shown_as_a_whole(run: Run, hub: FakeHub, tmp_path: Path):
    path = write_tiny_model(tmp_path / "s-F32.gguf")
    (tmp_path / "parts").mkdir()
    parts = split_gguf(path, tmp_path / "parts")
    hub.add("u/split", {part.name: part.read_bytes() for part in parts})
    assert len(parts) > 2
    run("pull", "u/split")
    one, both = answer(run, "show", str(path)), answer(run, "show", "u/split:F32")
    assert both["parameters"] == one["parameters"]
    assert both["size"] == sum(part.stat().st_size for part in parts)
    assert answer(run, "list")[0]["size"] == both["size"]
