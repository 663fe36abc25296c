"""`lockgate doctor`: what it says about a machine."""

import json
import sys
from pathlib import Path
from typing import Any

import pynvml
import pytest

from gateway.__main__ import main
from runtime.llama_library.installed import file_names
from tests.kit.command_line import lockgate
from tests.kit.fake_nvml import FakeGpu, FakeNvml

pytestmark = pytest.mark.usefixtures("own_folder")


def test_doctor_tells_which_engines_can_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    engines = {engine["name"]: engine for engine in report["engines"]}
    assert list(engines) == ["llama_cpp", "tensorrt_llm", "scripted"]
    assert engines["scripted"]["can_run"]
    for engine in engines.values():
        assert engine["can_run"] or (engine["problems"] and engine["advice"])
    assert report["memory"]["total"] >= report["memory"]["available"] > 0
    assert report["memory"]["total_source"]
    assert 1 <= report["num_threads"] <= report["cores"]["usable"]
    assert report["models"] == dict.fromkeys(("qwen2.5-coder-0.5b-instruct", "gemma-3-270m"), False)
    assert bool(report["driver"]["gpus"]) != bool(report["driver"]["problem"])


def test_doctor_fits_on_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 40
    for word in ("Python", "CPU", "Memory", "Models", "llama_cpp", "tensorrt_llm", "scripted"):
        assert word in text


@pytest.mark.posix("TensorRT-LLM")
def test_doctor_finds_tensorrt_llm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml([FakeGpu()]))
    monkeypatch.setattr(sys, "version_info", (3, 12, 3))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.syspath_prepend(tmp_path)

    def tensorrt_llm() -> dict[str, Any]:
        assert main(["doctor", "--json"]) == 0
        engine: dict[str, Any] = json.loads(capsys.readouterr().out)["engines"][1]
        return engine

    missing = tensorrt_llm()
    metadata = tmp_path / "tensorrt_llm-1.2.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: tensorrt_llm\nVersion: 1.2.1\n")
    found = tensorrt_llm()

    assert missing["problems"] == ["the package tensorrt_llm is not installed"]
    assert "docs/tensorrt-llm.md" in missing["advice"]
    assert (found["can_run"], found["version"], found["problems"]) == (True, "1.2.1", [])


def doctor_of_tensorrt_llm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str
) -> list[str]:
    """The lines about what TensorRT-LLM needs."""
    monkeypatch.setattr(sys, "platform", "linux")
    assert main(["doctor", *options]) == 0
    _, _, lines = capsys.readouterr().out.partition("What tensorrt_llm needs\n")
    return lines.splitlines()


@pytest.mark.posix("TensorRT-LLM")
def test_doctor_has_a_line_for_each_need_of_an_engine_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = doctor_of_tensorrt_llm(monkeypatch, capsys, "--set", "engine.name=tensorrt_llm")
    names = ("Python", "CUDA toolkit", "compiler", "Open MPI", "MPI interfaces", "kernel caches")
    assert all((line[:4] == "ok  ") != (" → " in line) for line in lines)
    for name in names:
        assert len([line for line in lines if line[5:].startswith(f"{name} ")]) == 1
    assert doctor_of_tensorrt_llm(monkeypatch, capsys) == []


@pytest.mark.posix("Linux loads no library of Windows")
def test_doctor_survives_an_engine_that_does_not(tmp_path: Path) -> None:
    """Libraries that cannot be loaded are told as they are, and the report goes on."""
    for module, distribution in (
        ("ik_llama_cpp", "ik_llama_cpp_python"),
        ("llama_cpp", "llama_cpp_python"),
    ):
        for name in file_names():
            library = tmp_path / module / "lib" / name
            library.parent.mkdir(parents=True, exist_ok=True)
            library.write_bytes(b"not a library")
        (tmp_path / module / "__init__.py").touch()
        metadata = tmp_path / f"{distribution}-9.9.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9.9\n")
    cache = {"XDG_CACHE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    answer = lockgate(tmp_path, "doctor", "--json", PYTHONPATH=str(tmp_path), **cache)
    engine = json.loads(answer.stdout)["engines"][0]
    assert not engine["can_run"]
    assert len(engine["problems"]) == 2
    assert all("cannot be loaded" in problem for problem in engine["problems"])
    assert "lockgate[cpu]" in engine["advice"]


def test_doctor_shows_gpus(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = FakeGpu("A GPU", total=80_000_000_000, free=79_000_000_000, compute_capability=(9, 0))
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml([gpu, gpu]))
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "NVIDIA 580.65.06, CUDA 13.1" in text
    unwrapped = " ".join(text.split())
    expected = "A GPU, 80.0 GB, 79.0 GB free, compute 9.0, 65 °C, 180 of 200 W"
    assert unwrapped.count(expected) == 2


def test_doctor_shows_a_gpu_that_is_lost_and_one_without_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost, shared = FakeGpu(), FakeGpu("NVIDIA GB10")
    nvml = FakeNvml([lost, shared])
    nvml.fail("nvmlDeviceGetHandleByIndex", pynvml.NVMLError_GpuIsLost)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert main(["doctor"]) == 0
    assert "the driver cannot reach this GPU" in " ".join(capsys.readouterr().out.split())
    nvml.heal()
    nvml.fail("nvmlDeviceGetMemoryInfo", pynvml.NVMLError_NotSupported, shared)
    assert main(["doctor"]) == 0
    assert "NVIDIA GB10, memory shared with the CPU, compute 8.9" in " ".join(
        capsys.readouterr().out.split()
    )
