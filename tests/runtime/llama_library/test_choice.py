"""Which library is taken, and what is said of those that are not."""

import importlib
import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import pytest
from structlog.testing import capture_logs

from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppConfig
from runtime.engines.llama_cpp.weights import library_wish
from runtime.errors import LibraryUnusable, SetupError
from runtime.llama_library import installed
from runtime.llama_library.choice import Wish, knows_architecture, obstacle, usable_libraries
from runtime.llama_library.functions import check_defaults
from runtime.llama_library.ik import IkLibrary
from runtime.llama_library.installed import installed_families, library_file, open_library
from runtime.llama_library.mainline import MainlineLibrary
from runtime.llama_library.self_check import verdicts
from runtime.models.gguf import read_gguf

FAMILIES = installed_families()
both = pytest.mark.skipif(len(FAMILIES) < 2, reason="only one llama.cpp library is installed")
any_library = pytest.mark.skipif(not FAMILIES, reason="no llama.cpp library is installed")


def names(wish: Wish, path: Path, problem: Callable[[str], str] = lambda name: "") -> list[str]:
    return [each.family for each in usable_libraries(wish, read_gguf(path), problem)]


@both
def test_the_fastest_is_first(tiny_model_path: Path):
    assert names(Wish(), tiny_model_path) == ["ik_llama.cpp", "llama.cpp"]
    assert names(Wish(library="cautious"), tiny_model_path) == ["llama.cpp", "ik_llama.cpp"]
    assert names(Wish(library="llama.cpp"), tiny_model_path) == ["llama.cpp"]


@both
def test_one_line_says_why_another_is_taken(tiny_model_path: Path):
    def problem(name: str) -> str:
        return "It computes nonsense." if name == "ik_llama.cpp" else ""

    with capture_logs() as logs:
        assert names(Wish(), tiny_model_path, problem) == ["llama.cpp"]
    [line] = logs
    assert (line["library"], line["reason"]) == ("ik_llama.cpp", "It computes nonsense.")


@any_library
@pytest.mark.parametrize("library", ["auto", "cautious", *FAMILIES])
def test_no_library_is_an_error_with_every_reason(tiny_model_path: Path, library: str):
    with pytest.raises(LibraryUnusable) as caught:
        names(Wish(library=library), tiny_model_path, lambda name: f"{name} is broken.")
    for name in FAMILIES if library in ("auto", "cautious") else [library]:
        assert f"{name} is broken." in str(caught.value)


@both
@pytest.mark.parametrize(
    "wish",
    [
        Wish(num_gpu_layers=1),
        Wish(use_extra_bufts=True),
        Wish(flash_attention=True),
    ],
)
def test_what_one_cannot_do_the_other_does(wish: Wish, tmp_path: Path):
    path = header(tmp_path / "m.gguf", "llama", embedding_length=128, head_count=2)
    assert names(wish, path) == ["llama.cpp"]


@both
def test_only_one_can_repack(tiny_model_path: Path):
    assert names(Wish(repack_tensors=True), tiny_model_path) == ["ik_llama.cpp"]


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        (Wish(num_gpu_layers=3), "num_gpu_layers"),
        (Wish(flash_attention=True), "flash_attention"),
        (Wish(use_extra_bufts=True), "use_extra_bufts"),
        (Wish(repack_tensors=True), ""),
    ],
)
def test_obstacles_of_ik_are_named(wish: Wish, word: str):
    reason = obstacle(IkLibrary.traits, wish)
    assert word in reason
    assert bool(reason) == bool(word)


@any_library
@pytest.mark.parametrize("family", FAMILIES)
def test_a_library_says_which_architectures_it_knows(family: str):
    library = open_library(family)
    assert all(knows_architecture(library, each) for each in ("llama", "qwen2", "gemma3", "bert"))
    assert not knows_architecture(library, "no-such-architecture")


@any_library
@pytest.mark.parametrize("architecture", ["no-such", "", "x" * 300])
def test_an_architecture_that_none_knows(tmp_path: Path, architecture: str):
    with pytest.raises(LibraryUnusable, match="architecture"):
        names(Wish(), header(tmp_path / "m.gguf", architecture))


def header(path: Path, architecture: str, **numbers: int) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in numbers.items():
        section = "attention." if key.startswith("head") else ""
        writer.add_uint32(f"{architecture}.{section}{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_a_file_that_is_no_library(tmp_path: Path):
    path = tmp_path / "libllama.so"
    path.write_bytes(b"no library")
    with pytest.raises(LibraryUnusable, match="cannot be loaded"):
        open_library(str(path))
    with pytest.raises(LibraryUnusable, match="cannot be loaded"):
        open_library(str(tmp_path / "absent.so"))
    assert "cannot be read" in verdicts.problem_of(str(tmp_path / "absent.so"), tmp_path / "v.json")


def test_a_library_of_something_else():
    path = Path(importlib.import_module("_ctypes").__file__ or "")
    with pytest.raises(LibraryUnusable, match="is no llama"):
        open_library(str(path))


@both
@pytest.mark.parametrize("kind", [IkLibrary, MainlineLibrary])
def test_another_interface_than_declared_is_refused(kind: type, monkeypatch: pytest.MonkeyPatch):
    """Each library's file is taken for one of the other family."""
    other = next(each for each in FAMILIES if each != kind.family)
    monkeypatch.setattr(installed, "_loaded", {})
    monkeypatch.setattr(installed, "_FAMILIES", (_renamed(kind, other),))
    with pytest.raises(LibraryUnusable, match=r"has no function llama_\w+.*knows the interfaces"):
        open_library(other)


def _renamed(kind: type, family: str) -> type:
    return type("Renamed", (kind,), {"family": family})


def test_other_defaults_are_another_layout():
    class Params:
        n_ctx = 2048

    with pytest.raises(LibraryUnusable, match="n_ctx = 2048 by default, where 512"):
        check_defaults("parameters", Params(), {"n_ctx": 512})  # type: ignore[arg-type]


@any_library
def test_a_path_is_a_library_too(tiny_model_path: Path):
    path = library_file(FAMILIES[0])
    assert path is not None
    assert names(Wish(library=str(path)), tiny_model_path) == [FAMILIES[0]]


@any_library
@pytest.mark.parametrize("family", FAMILIES)
def test_a_verdict_is_kept(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "cache" / "v.json"
    assert verdicts.problem_of(family, file) == ""
    monkeypatch.setattr(verdicts, "check_in_child", lambda name: "asked again")
    assert verdicts.problem_of(family, file) == ""
    monkeypatch.setattr(verdicts, "library_version", lambda name: "another")
    assert verdicts.problem_of(family, file) == "asked again"
    file.write_text("{")
    assert verdicts.problem_of(family, file) == "asked again"


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals and scripts")
@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["kill -ILL $$"], ["SIGILL", "another processor"]),
        (["kill -ABRT $$"], ["SIGABRT"]),
        (["echo 'It is wrong.'", "exit 1"], ["It is wrong."]),
        (["echo 'no such module' >&2", "exit 3"], ["exit status 3", "no such module"]),
        (["sleep 30"], ["does not end"]),
    ],
)
def test_how_a_check_can_end(
    lines: Sequence[str], words: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    script = tmp_path / "python"
    script.write_text("\n".join(["#!/bin/sh", "exec 2>&1" if "exit 1" in lines else "", *lines]))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(verdicts, "TIMEOUT", 1.0 if "sleep 30" in lines else 30.0)
    problem = verdicts.check_in_child("a library")
    assert all(word in problem for word in words), problem


def test_settings_that_contradict_each_other():
    settings = LlamaCppConfig(kv_cache_dtype="q8_0", flash_attention=False)
    with pytest.raises(SetupError, match=r"kv_cache_dtype.*flash_attention"):
        library_wish(EngineConfig(llama_cpp=settings))
