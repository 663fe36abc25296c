"""`lockgate plan`: what it prints, for people and for programs, and how it refuses."""

import json
import sys
from pathlib import Path
from typing import Any

import pynvml
import pytest

from gateway.__main__ import main
from tests.kit.fake_nvml import GIB, FakeGpu, FakeNvml
from tests.kit.models.shape_folders import write_shape_folder

pytestmark = pytest.mark.usefixtures("own_folder")


def use(monkeypatch: pytest.MonkeyPatch, *gpus: FakeGpu) -> FakeNvml:
    nvml = FakeNvml(gpus)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return nvml


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """As one line, wherever the terminal breaks it."""
    assert main(["plan", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return " ".join(captured.out.split())


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["plan", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_it_says_plainly_what_a_12_gb_card_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--model", "qwen3-8b", "--gpu", "rtx-4070")
    for sentence in (
        "bf16 does not fit: the weights alone are 16.4 GB, the memory is 12.9 GB.",
        "nvfp4 does not run: TensorRT-LLM does not run nvfp4 on Ada.",
        "One stream gets at most 104 tokens/s in int4_awq at its first token and 93 at 4,096",
        "200 tokens/s in total take at least 3 streams of 4,096 tokens in int4_awq.",
        "The largest batch that fits is 7 streams of 4,096 tokens, at most 390 tokens/s together",
        "With speculation one stream may expect 2.2 times as much, about 230 tokens/s at best, if"
        " 70% of 3 drafted tokens are right",
        "assumptions, which depend on the text.",
    ):
        assert sentence in text, sentence


def test_json_has_the_numbers_and_the_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "--model", "qwen3-8b", "--gpu", "RTX 4070", "--context", "8192")
    assert found["plan"]["context"] == 8192
    rows = {row["precision"]: row for row in found["plan"]["rows"]}
    assert list(rows) == ["bf16", "fp8", "int8", "int4_awq", "nvfp4", "mxfp4"]
    assert rows["int4_awq"]["kv_bytes_per_stream"] == 8192 * 147_456
    assert any("bf16 does not fit" in finding for finding in found["findings"])


def test_one_precision_a_batch_and_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--precision", "fp8", "--max-batch-size", "8", "--target", "100000")
    text = printed(capsys, "--model", "qwen3-8b", "--gpu", "h100", *options)
    assert "bf16" not in text
    assert "100,000 tokens/s in total are out of reach in fp8 without speculation." in text
    assert "The largest batch that --max-batch-size allows is 8 streams" in text


def test_an_fp8_cache_holds_twice_as_much(capsys: pytest.CaptureFixture[str]) -> None:
    common = ("--model", "qwen3-8b", "--gpu", "rtx-4070", "--precision", "int4_awq")
    wide, narrow = (
        answer(capsys, *common, "--kv-cache", kind)["plan"]["rows"][0] for kind in ("auto", "fp8")
    )
    assert narrow["max_kv_tokens"] >= 2 * wide["max_kv_tokens"]


def test_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--model", "llama-3.1-70b", "--gpu", "rtx-4070")
    assert "Nothing that TensorRT-LLM runs on rtx-4070 fits with one stream" in text


def test_windows_are_told_to_the_engine(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--model", "gemma-2-9b", "--gpu", "rtx-4090")
    assert "21 of 42 layers keep 4,096 tokens of a stream and no more" in text
    assert "max_attention_window" in text


def test_a_gguf_file_needs_another_checkpoint(
    capsys: pytest.CaptureFixture[str], tiny_model_path: Path
) -> None:
    text = printed(capsys, "--model", str(tiny_model_path), "--gpu", "l4")
    assert "The GGUF file holds 0.0 GB of weights for llama.cpp; TensorRT-LLM needs" in text


@pytest.mark.parametrize(
    ("quantization", "sentence"),
    [
        (None, "The checkpoint on the disk is bf16, 0.0 GB."),
        ({"quant_method": "gptq"}, "The checkpoint on the disk (gptq, 0.0 GB) is in a format"),
    ],
)
def test_a_folder_says_what_it_holds(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, quantization: Any, sentence: str
) -> None:
    folder = write_shape_folder(tmp_path / "tiny", quantization=quantization)
    assert sentence in printed(capsys, "--model", str(folder), "--gpu", "l4")


def test_the_gpu_of_this_machine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = use(monkeypatch, FakeGpu(), FakeGpu("NVIDIA Unheard Of", total=20 * GIB, bus_bits=256))
    known = answer(capsys, "--model", "qwen3-8b")["plan"]["gpu"]
    other = answer(capsys, "--model", "qwen3-8b", "--gpu-index", "1")["plan"]["gpu"]
    assert (known["name"], known["memory_bytes"]) == ("rtx-4070", 12 * GIB)
    assert (other["name"], other["memory_bytes"]) == ("NVIDIA Unheard Of", 20 * GIB)
    assert other["bandwidth"] == pytest.approx(2 * 10_501e6 * 256 / 8)
    assert not nvml.is_open


def test_a_gpu_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = use(monkeypatch)
    assert "the driver sees no GPU. Name one" in refusal(capsys, "--model", "qwen3-8b")
    nvml.gpus.append(FakeGpu())
    text = refusal(capsys, "--model", "qwen3-8b", "--gpu-index", "3")
    assert "there is no GPU 3; there are: 0" in text
    nvml.fail("nvmlDeviceGetMemoryInfo", pynvml.NVMLError_NotSupported)
    assert "tells too little about it" in refusal(capsys, "--model", "qwen3-8b")
    nvml.fail("nvmlInit", pynvml.NVMLError_LibraryNotFound)
    assert "no NVIDIA driver on this machine. Name one" in refusal(capsys, "--model", "qwen3-8b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "qwen3-8b", "--gpu", "rtx-4071"), "Did you mean rtx-4070? Known names: rtx-3"),
        (("--model", "qwen3-8", "--gpu", "l4"), "Did you mean qwen3-8b? Known names: gemma-2-9b"),
        (("--gpu", "l4"), "the following arguments are required: --model"),
        (
            ("--model", "qwen3-8b", "--gpu", "l4", "--context", "99999"),
            "a context of 40,960 tokens",
        ),
        (
            ("--model", "qwen3-8b", "--gpu", "l4", "--context", "0"),
            "'0' is not a whole number from 1",
        ),
        (("--model", "qwen3-8b", "--gpu", "l4", "--precision", "int3"), "invalid choice: 'int3'"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert message in refusal(capsys, *arguments)
