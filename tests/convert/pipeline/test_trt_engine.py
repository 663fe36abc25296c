"""`lockgate-convert engine` with the double of TensorRT-LLM, calibration with one of ModelOpt."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from convert.__main__ import main
from convert.pipeline.modelopt import calibrate_on
from convert.pipeline.plan import Options
from runtime.engines.tensorrt_llm.setup.checkpoint import read_checkpoint
from runtime.errors import MissingExtra, SetupError
from tests.kit.models.conversion import converted
from tests.kit.models.tiny_checkpoints import (
    tiny_gguf,
)
from tests.kit.tensorrt_double import EARLY, LATE, STABLE, double_of


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_gguf(tmp_path, "llama", name="m.gguf")[0]


def folder_of(model: Path, precision: str) -> Path:
    target = model.with_name(precision)
    return converted(model, target, precision)


@pytest.mark.parametrize("release", [STABLE, EARLY])
def test_engines_are_built_and_can_be_served(
    release: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = model.with_name("engines")
    arguments = ["engine", str(folder_of(model, "bf16")), str(target), "--max-batch-size", "4"]
    with double_of(release):
        assert main([*arguments, "--max-num-tokens", "512"]) == 0
    assert capsys.readouterr().out == f"{target}\n"

    built = read_checkpoint(str(target)).built
    assert built is not None
    assert (built.max_seq_len, built.max_batch_size, built.max_num_tokens) == (64, 4, 512)
    assert (target / "tokenizer.json").is_file()
    assert not list(model.parent.glob("*.partial"))


def test_releases_without_the_builder(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(model, "fp16")
    with double_of(LATE):
        assert main(["engine", str(folder), str(model.with_name("engines"))]) == 2
    assert "builds no engines: late candidates of 1.3" in capsys.readouterr().err
    assert not list(model.parent.glob("engines*"))


@pytest.mark.parametrize(
    ("precision", "options", "message"),
    [
        ("fp8", [], "is quantized, which the builder does not load"),
        ("bf16", ["--max-seq-len", "65"], "the model ends at 64 tokens"),
        ("bf16", ["--max-batch-size", "0"], "--max-batch-size: '0' is not a whole number from 1"),
    ],
)
def test_what_the_builder_cannot_do(
    precision: str,
    options: list[str],
    message: str,
    model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = folder_of(model, precision)
    with double_of(STABLE):
        assert main(["engine", str(folder), str(model.with_name("engines")), *options]) == 2
    assert message in capsys.readouterr().err


def test_the_builders_own_words(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(model, "bf16")
    (folder / "double.json").write_text('{"faults": [{"kind": "out_of_memory"}]}')
    with double_of(STABLE):
        assert main(["engine", str(folder), str(model.with_name("engines"))]) == 2
    assert "insufficient GPU memory" in capsys.readouterr().err


def test_without_tensorrt_llm(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(model, "bf16")
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorrt_llm"]:
        monkeypatch.delitem(sys.modules, name)

    assert main(["engine", str(folder), str(model.with_name("engines"))]) == 2
    assert "pip install 'lockgate[tensorrt]'" in capsys.readouterr().err


class FakeModelOpt:
    """As much of torch, transformers and ModelOpt as calibration needs, and notes of it all."""

    def __init__(self, *, has_gpu: bool = True) -> None:
        self.config: dict[str, Any] = {}
        self.samples: list[list[int]] = []
        self.loaded = ""
        self._has_gpu = has_gpu

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        torch, quantization = ModuleType("torch"), ModuleType("modelopt.torch.quantization")
        torch.cuda = SimpleNamespace(is_available=lambda: self._has_gpu)  # type: ignore[attr-defined]
        torch.bfloat16 = "bfloat16"  # type: ignore[attr-defined]
        torch.no_grad = torch.inference_mode = _Nothing  # type: ignore[attr-defined]
        torch.tensor = lambda values, device: values  # type: ignore[attr-defined]
        quantization.FP8_DEFAULT_CFG = _rules("fp8")  # type: ignore[attr-defined]
        quantization.INT4_AWQ_CFG = _rules("awq")  # type: ignore[attr-defined]
        quantization.FP8_KV_CFG = _rules("kv")  # type: ignore[attr-defined]
        quantization.quantize = self.quantize  # type: ignore[attr-defined]
        export = ModuleType("modelopt.torch.export")
        export.export_hf_checkpoint = self.export  # type: ignore[attr-defined]
        transformers = ModuleType("transformers")
        transformers.AutoTokenizer = SimpleNamespace(from_pretrained=lambda folder: _tokenize)  # type: ignore[attr-defined]
        transformers.AutoModelForCausalLM = SimpleNamespace(from_pretrained=self.load)  # type: ignore[attr-defined]
        parents = [ModuleType("modelopt"), ModuleType("modelopt.torch")]
        for module in (*parents, torch, quantization, export, transformers):
            monkeypatch.setitem(sys.modules, module.__name__, module)

    def load(self, folder: str, dtype: str) -> "FakeModelOpt":
        assert json.loads(Path(folder, "config.json").read_text())["torch_dtype"] == dtype
        self.loaded = folder
        return self

    def to(self, device: str) -> "FakeModelOpt":
        assert device == "cuda"
        return self

    def eval(self) -> "FakeModelOpt":
        return self

    def __call__(self, batch: list[list[int]]) -> None:
        self.samples += batch

    def quantize(self, model: "FakeModelOpt", config: dict[str, Any], forward_loop: Any) -> Any:
        self.config = config
        forward_loop(model)
        return model

    def export(self, model: "FakeModelOpt", export_dir: str) -> None:
        Path(export_dir).mkdir(parents=True)
        (Path(export_dir) / "hf_quant_config.json").write_text("{}")


class _Nothing:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


def _rules(name: str) -> dict[str, Any]:
    rule = {"quantizer_name": "*weight_quantizer", "cfg": name}
    return {"quant_cfg": [{"quantizer_name": "*", "enable": False}, rule], "algorithm": "max"}


def _tokenize(text: str) -> dict[str, list[int]]:
    return {"input_ids": list(text.encode())}


@pytest.mark.parametrize(("precision", "rule"), [("fp8", "fp8"), ("int4-awq", "awq")])
def test_calibration_runs_the_text_through_the_plain_checkpoint(
    precision: str, rule: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, target = FakeModelOpt(), model.with_name("target")
    fake.install(monkeypatch)
    text = "".join(chr(65 + number % 26) for number in range(512 * 2 + 7))
    calibrate_on("gpu", model, target, precision, text, Options(), lambda num_bytes: None)

    assert fake.loaded == str(model.with_name("target.plain"))
    assert bytes(fake.samples[0] + fake.samples[1]).decode() == text[:1024]
    assert len(fake.samples) == 2
    assert fake.config == _rules(rule)
    assert {file.name for file in target.iterdir()} >= {"hf_quant_config.json", "tokenizer.json"}
    assert sorted(path.name for path in model.parent.glob("target*")) == ["target"]


def test_calibration_from_the_command_line(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake, target, text = FakeModelOpt(), model.with_name("target"), model.with_name("text.txt")
    fake.install(monkeypatch)
    text.write_text("some text " * 100)
    arguments = ["run", str(model), str(target), "--precision", "fp8", "--kv-cache", "fp8"]
    arguments += ["--calibrate-on", "gpu", "--calibration", str(text)]

    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert fake.config["quant_cfg"] == [*_rules("fp8")["quant_cfg"], *_rules("kv")["quant_cfg"]]
    text.unlink()
    assert main([*arguments[:2], str(model.with_name("other")), *arguments[3:]]) == 2
    assert "--calibration" in capsys.readouterr().err


def test_calibration_that_cannot_be_done(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = model.with_name("target")

    def calibrate(precision: str, text: str) -> None:
        calibrate_on("gpu", model, target, precision, text, Options(), lambda num_bytes: None)

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"torch is not installed.*lockgate\[calibrate\]"):
        calibrate("fp8", "text")
    FakeModelOpt(has_gpu=False).install(monkeypatch)
    with pytest.raises(SetupError, match="torch sees no GPU"):
        calibrate("fp8", "text")
    FakeModelOpt().install(monkeypatch)
    with pytest.raises(SetupError, match="int4-rtn measures nothing"):
        calibrate("int4-rtn", "text")
    with pytest.raises(SetupError, match="it has 4 tokens; 512 are the least"):
        calibrate("fp8", "text")
    monkeypatch.setitem(sys.modules, "modelopt.torch.quantization", None)
    with pytest.raises(MissingExtra, match="nvidia-modelopt is not installed"):
        calibrate("fp8", "text")
    assert not target.exists()
