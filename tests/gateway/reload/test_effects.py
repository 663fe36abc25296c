"""When a changed setting takes effect."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.reload.effects import EFFECTS, differences, effect_between, taken_over, value_at
from gateway.settings.mistakes import fields_of
from gateway.settings.schema import Settings


def paths_of(kind: Any, prefix: str = "") -> Iterator[str]:
    for name, inner in fields_of(kind).items():
        if fields_of(inner):
            yield from paths_of(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


PATHS = sorted(paths_of(Settings))


@pytest.mark.parametrize("path", PATHS)
def test_every_setting_has_a_known_effect(path: str):
    sections = [path.rsplit(".", drop)[0] for drop in range(path.count(".") + 1)]
    assert any(section in EFFECTS for section in sections), f"decide when {path} takes effect"


@pytest.mark.parametrize("path", sorted(EFFECTS))
def test_every_known_effect_is_that_of_a_setting(path: str):
    assert any(known == path or known.startswith(f"{path}.") for known in PATHS)


VALUES = {
    "server.port": st.integers(0, 65_535),
    "server.cors_allow_origins": st.lists(st.sampled_from(["https://a.b", "https://c.d"])),
    "auth.keys_file": st.text(),
    "model.aliases": st.dictionaries(st.text(min_size=1), st.text()),
    "engine.max_num_seqs": st.integers(1, 256),
    "engine.scripted.step_ms": st.floats(0, 9),
    "engine.tensorrt_llm.lora.adapters": st.dictionaries(st.text(min_size=1), st.text()),
    "log.level": st.sampled_from(["debug", "info"]),
}


def settings() -> st.SearchStrategy[Settings]:
    def made(values: dict[str, Any]) -> Settings:
        document: dict[str, Any] = {}
        for path, value in values.items():
            *sections, name = path.split(".")
            table = document
            for section in sections:
                table = table.setdefault(section, {})
            table[name] = value
        return msgspec.convert(document, Settings)

    return st.fixed_dictionaries({}, optional=VALUES).map(made)


@given(settings(), settings(), st.sets(st.sampled_from(sorted(VALUES))))
def test_what_is_taken_over_differs_no_more(old: Settings, new: Settings, some: set[str]):
    paths = set(differences(old, new))
    assert paths <= VALUES.keys()
    assert all(value_at(old, path) != value_at(new, path) for path in paths)
    assert taken_over(old, new, paths) == new
    assert set(differences(taken_over(old, new, some), new)) == paths - some


@pytest.mark.parametrize(
    ("path", "old", "new", "effect"),
    [
        ("auth.keys_file", "a", "b", "live"),
        ("auth.keys_file", "", "b", "server"),
        ("auth.keys_file", "a", "", "server"),
        ("server.tls_certificate", "a", "b", "live"),
        ("server.tls_certificate", "", "b", "server"),
        ("server.tls_certificate", "a", "", "server"),
        ("server.tls_key", "", "b", "server"),
        ("engine.name", "scripted", "llama_cpp", "server"),
        ("engine.scripted.text", "a", "b", "engine"),
    ],
)
def test_whether_there_are_keys_and_tls_is_decided_at_the_start(
    path: str, old: str, new: str, effect: str
):
    section, _, name = path.partition(".")
    inner = {"scripted": {"text": None}} if "." in name else {name: None}

    def of(value: str) -> Settings:
        table: Any = {"scripted": {"text": value}} if "." in name else dict.fromkeys(inner, value)
        return msgspec.convert({section: table}, Settings)

    assert effect_between(path, of(old), of(new)) == effect
