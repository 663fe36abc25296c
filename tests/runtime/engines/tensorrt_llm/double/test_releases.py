"""Sections 0, 8 and 11 of the notes: releases. No row of the table of facts goes untested."""

import importlib
import importlib.util
from pathlib import Path

import pytest

from tests.kit.tensorrt_double import DOUBLES
from tests.runtime.engines.tensorrt_llm.double.harness import FIELD_OWNERS, NAME, Double


def test_the_version_is_the_columns(double: Double) -> None:
    assert double.version == double.fact("version")
    assert double.version.startswith(double.release)


def test_every_row_has_a_value_for_each_release(double: Double) -> None:
    names = [row.name for row in double.facts.TABLE]
    assert len(names) == len(set(names))
    assert all(len(row.values) == len(double.facts.RELEASES) for row in double.facts.TABLE)
    assert all(row.section[0].isdigit() for row in double.facts.TABLE)


def test_an_unknown_release_is_refused(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE", "0.9")
    module = importlib.util.spec_from_file_location("facts", DOUBLES / NAME / "facts.py")
    assert module is not None
    with pytest.raises(ValueError, match=r"TENSORRT_LLM_DOUBLE='0\.9'"):
        module.loader.exec_module(importlib.util.module_from_spec(module))  # type: ignore[union-attr]


def test_8_1_the_engine_builder_can_be_imported_or_not(double: Double) -> None:
    name = f"{NAME}._tensorrt_engine"
    if double.fact("has_tensorrt_engine"):
        assert importlib.import_module(name).LLM is not double.LLM
    else:
        with pytest.raises(ModuleNotFoundError, match="_tensorrt_engine"):
            importlib.import_module(name)


def test_11_lora_config_is_in_one_module(double: Double) -> None:
    names = (f"{NAME}.lora_helper", f"{NAME}._torch.peft.lora.config")
    assert double.fact("lora_module") in names
    for name in names:
        if name == double.fact("lora_module"):
            config = importlib.import_module(name).LoraConfig(lora_dir=["a"], max_lora_rank=8)
            assert config.lora_dir == ["a"]
        else:
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module(name)


def test_no_row_of_the_table_goes_untested(double: Double) -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py"))
    untested = [
        row.name
        for row in double.facts.TABLE
        if row.name not in text
        and row.name.split(".")[0] not in FIELD_OWNERS
        and not row.name.startswith(("SamplingParams.", "generate_async."))
    ]
    assert untested == []
