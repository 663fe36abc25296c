"""`[models.NAME]` tables: over the general sections, with mistakes told by their path."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.commands.options import settings_of
from gateway.settings.loader import load_settings
from gateway.settings.schema import Settings
from gateway.settings.several_models import named_path
from runtime.errors import SetupError

TWO = """
[engine]
max_num_seqs = 8
llama_cpp.num_threads = 2
[models.small]
[models."b.1/x"]
name_or_path = "b.gguf"
idle_seconds = 60
engine.max_num_seqs = 3
engine.llama_cpp.kv_cache_dtype = "q8_0"
"""


class Arguments:
    """What the command line was given."""

    def __init__(self, config: str, *sets: str) -> None:
        self.config, self.set = config, list(sets)


def loaded(folder: Path, text: str, *sets: str, environ: dict[str, str] | None = None) -> Settings:
    file = folder / "several.toml"
    file.write_text(text, encoding="utf-8")
    if environ is not None:
        return load_settings(str(file), environ=environ)
    arguments: Any = Arguments(str(file), *sets)
    return settings_of(arguments)


def test_tables_stand_over_the_general_sections(tmp_path: Path) -> None:
    general = "[model]\nfolder = 'f'\nmirrors = ['./m']\n"
    settings = loaded(tmp_path, general + TWO)
    small, other = settings.models["small"], settings.models["b.1/x"]
    assert (small.load, small.name_or_path, small.folder, small.mirrors) == (
        "demand",
        "small",
        "f",
        ("./m",),
    )
    assert (small.engine.max_num_seqs, small.engine.llama_cpp.num_threads) == (8, 2)
    assert (other.engine.max_num_seqs, other.engine.llama_cpp.num_threads) == (3, 2)
    assert other.engine.llama_cpp.kv_cache_dtype == "q8_0"
    assert settings.engine.llama_cpp.kv_cache_dtype == "f16"


def test_the_short_form_is_one_of_them_if_it_names_a_model(tmp_path: Path) -> None:
    named = loaded(tmp_path, "model.name_or_path = '/m/big.gguf'\n" + TWO)
    assert list(named.models) == ["big", "small", "b.1/x"]
    assert named.models["big"].load == "start"
    shown = loaded(tmp_path, TWO, "model.name_or_path=y.gguf", "model.served_name=z")
    assert list(shown.models) == ["z", "small", "b.1/x"]
    assert loaded(tmp_path, "model.name_or_path = 'x.gguf'").models == {}


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("models.small.engine.max_num_seqs=5", "small", 5),
        ("models.SMALL.Engine.max_num_seqs=5", "small", 5),
        ('models."b.1/x".engine.max_num_seqs=5', "b.1/x", 5),
        ("models.b.1/x.engine.max_num_seqs=5", "b.1/x", 5),
        ("models.new.engine.max_num_seqs=5", "new", 5),
    ],
)
def test_options_reach_into_tables(tmp_path: Path, option: str, name: str, value: int) -> None:
    assert loaded(tmp_path, TWO, option).models[name].engine.max_num_seqs == value


def test_variables_reach_into_tables(tmp_path: Path) -> None:
    environ = {"LOCKGATE__MODELS__B_1_X__LOAD": "start", "LOCKGATE__MODELS__SMALL__MEMORY_GB": "2"}
    models = loaded(tmp_path, TWO, environ=environ).models
    assert (models["b.1/x"].load, models["small"].memory_gb) == ("start", 2.0)
    assert len(models) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[models.a]\nlaod = 'start'", "$.models.a.laod is not a setting; did you mean load?"),
        ("[models.a]\nload = 'now'", "$.models.a.load: expected 'start' or 'demand' or 'never'"),
        (
            "[models.'a.b'.engine]\nmax_num_seqs = 0",
            '$.models."a.b".engine.max_num_seqs: expected a whole number >= 1, got 0',
        ),
        ("models.a = 1", "$.models.a: expected a table with the keys name_or_path"),
        ("[models.'']", "$.models (a key): expected a string that is not empty"),
        ("[models.a]\nserved_name = 'b'", "models.a.served_name: the table's name is the model's"),
        ("[models.a]\nmirrors = ['ftp://x']", "models.a.mirrors: "),
        ("model.chat_template = 'x'\n[models.a]", "model.chat_template: with [models] tables"),
        ("model.served_name = 'a'\n[models.a]", "two models of one name"),
        ('[models."a\\nb"]', "the model name 'a\\nb' is not a line of printable"),
        ("[models.' ']", "the model name ' ' is not a line of printable"),
        ('model.served_name = "a\\u001bb"', "the model name 'a\\x1bb' is not a line"),
    ],
)
def test_mistakes_are_told_by_their_path(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(SetupError) as caught:
        loaded(tmp_path, text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("models.small.engine.max_num_seqs=x", "$.models.small.engine.max_num_seqs: expected"),
        ("models.small=x", "$.models.small is a section; set one of its keys"),
        ("models.small.nothing=x", "$.models.small.nothing is not a setting"),
        ('models."small.load=x', 'write a name with dots as models."a.b".load'),
    ],
)
def test_mistakes_in_options(tmp_path: Path, option: str, expected: str) -> None:
    with pytest.raises(SetupError) as caught:
        loaded(tmp_path, TWO, option)
    assert expected in str(caught.value)


def test_an_alias_of_two_models(tmp_path: Path) -> None:
    text = "[models.a.aliases]\nx = 'a'\n[models.b.aliases]\n"
    assert loaded(tmp_path, text + "y = 'a'").aliases == {"x": "a", "y": "a"}
    with pytest.raises(SetupError, match="'x' is an alias of two models"):
        _ = loaded(tmp_path, text + "x = 'b'").aliases


NAMES = st.text("aB1.-/_", min_size=1, max_size=6)


@given(name=NAMES, others=st.lists(NAMES, max_size=3))
def test_a_name_is_found_however_its_dots_were_read(name: str, others: list[str]) -> None:
    path = ("models", *name.split("."), "load")
    found = named_path(path, [name, *others])
    assert found[0] == "models"
    assert found[-1] == "load"
    if not any(other.lower() != name.lower() for other in others):
        assert found == ("models", name, "load")
