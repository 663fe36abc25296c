"""`lockgate-convert`: what it prints, and how it ends."""

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convert.__main__ import main
from tests.kit.models.tiny_checkpoints import (
    tiny_gguf,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_gguf(tmp_path, "qwen3")[0]


def test_run_then_verify_then_inspect(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = model.with_name("target")

    assert main(["run", str(model), str(target), "--precision", "fp8", "--threads", "2"]) == 0
    assert capsys.readouterr().out == f"{target}\n"

    assert main(["verify", str(target), "--against", str(model)]) == 0
    assert ", 0 out of bounds" in capsys.readouterr().out

    assert main(["inspect", str(target), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["architecture"] == "Qwen3ForCausalLM"
    assert found["mix"].keys() == {"BF16", "F8_E4M3", "F32"}
    assert found["has_chat_template"] is True
    assert found["context"] == 64


def test_inspect_a_gguf_file(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model)]) == 0
    shown = capsys.readouterr().out

    assert "qwen3" in shown
    assert "F32 100.0%" in shown
    assert "(gpt2, qwen2)" in shown


def test_verify_fails_when_the_source_is_another(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = model.with_name("target")
    other, _ = tiny_gguf(model.parent, "qwen3", name="o.gguf", seed=1)
    main(["run", str(model), str(target), "--precision", "bf16"])

    assert main(["verify", str(target), "--against", str(other), "--all"]) == 1
    assert "TOO LARGE" in capsys.readouterr().out


def test_a_recipe_file(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = model.with_name("recipe.toml")
    recipe.write_text(
        'precision = "int4-rtn"\nkv_cache = "fp8"\n'
        '[[rules]]\nmatch = "model.layers.1.*"\nprecision = "fp8"\n'
    )
    target = model.with_name("target")

    assert main(["run", str(model), str(target), "--recipe", str(recipe)]) == 0
    quantization = json.loads((target / "quant_cfg.json").read_text())
    assert quantization["kv_cache_quant_algo"] == "FP8"
    assert quantization["quantized_layers"]["model.layers.1.mlp.up_proj"]["quant_algo"] == "FP8"


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ('precision = "int5"', "`precision` 'int5': must be one of"),
        ('precision = "fp8"\ngroup = 3', "unknown field `group`"),
        ("precision = ", "recipe.toml"),
        ('precision = "fp8"\n[[rules]]\nmatch = "*"\nprecision = "bf16"', "of the rule '*'"),
    ],
)
def test_a_wrong_recipe(
    recipe: str, message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model.with_name("recipe.toml")
    path.write_text(recipe)

    assert main(["run", str(model), str(model.with_name("t")), "--recipe", str(path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "no-such-model"], "no-such-model"),
        (["inspect", "."], "there are no safetensors files"),
        (["run", "MODEL", "target"], "--precision is missing"),
        (["run", "MODEL", "target", "--precision", "int2-none"], "invalid choice: 'int2-none'"),
        (["run", "MODEL", "target", "--precision", "fp8", "--threads", "-1"], "--threads"),
        (["verify", "nowhere"], "lockgate_manifest.json: cannot be read"),
        ([], "arguments are required: COMMAND"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str], message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [str(model) if argument == "MODEL" else argument for argument in arguments]

    assert main(filled) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_a_target_that_cannot_be_written(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", str(model), str(model / "target"), "--precision", "bf16"])

    assert code == 2
    assert f"lockgate-convert: {model}: cannot be written to: " in capsys.readouterr().err


def test_a_disk_that_is_full(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = model.with_name("target")
    monkeypatch.setattr("convert.pipeline.convert.write_tokenizer", full)
    assert main(["run", str(model), str(target), "--precision", "bf16"]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "No space left on device. What is finished stays in" in shown
    monkeypatch.undo()
    assert main(["run", str(model), str(target), "--precision", "bf16"]) == 0
    assert main(["verify", str(target), "--against", str(model)]) == 0


@pytest.mark.posix("there are no such limits")
def test_files_that_may_not_grow(model: Path) -> None:
    """The limit stands for a full disk: a write fails in the middle, and the next run goes on."""
    target = model.with_name("target")
    script = (
        "import resource, sys\n"
        "from convert.__main__ import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = ["run", str(model), str(target), "--precision", "bf16"]
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not target.exists()
    assert main(command) == 0


KILLED = """
import os, signal, sys
from pathlib import Path

from convert.__main__ import main
from convert.pipeline.workspace import Workspace

when, record = sys.argv[1], Workspace.record


def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)


def record_and_die(self, entry):
    record(self, entry)
    if len(self.done) >= int(when):
        die()


if when == "rename":
    Path.rename = die
else:
    Workspace.record = record_and_die
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.posix("there is no SIGKILL")
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_a_killed_run_goes_on(precision: str, model: Path) -> None:
    """kill -9 after so many weights, and again, and before the last step of all."""
    options = ["--precision", precision, "--threads", "2"]
    whole, target = model.with_name("whole"), model.with_name("target")
    assert main(["run", str(model), str(whole), *options]) == 0
    command = ["run", str(model), str(target), *options]
    journal = model.with_name("target.partial") / "journal.jsonl"
    for when in ("1", "9", "24", "rename"):
        died = subprocess.run([sys.executable, "-c", KILLED, when, *command], timeout=60)
        assert died.returncode == -signal.SIGKILL
        assert not target.exists()
        if when != "rename":
            assert journal.read_bytes().count(b"\n") >= int(when)

    assert main(command) == 0
    assert _files(target) == _files(whole)
    assert not journal.parent.exists()


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_interruption_has_its_own_code(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convert.pipeline.convert.write_tokenizer", interrupt)
    command = ["run", str(model), str(model.with_name("target")), "--precision", "bf16"]
    assert main(command) == 130
    assert "interrupted" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(command) == 0
