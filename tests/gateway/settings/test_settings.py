"""Settings: four places in order, and a clear line for every mistake."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.loader import Override, load_settings
from gateway.settings.schema import Settings
from runtime.config.tensorrt_llm import NGramSpeculation
from runtime.errors import SetupError
from tests.kit.root import ROOT

NO_FILE = {"LOCKGATE_CONFIG": os.devnull}


def write(folder: Path, text: str) -> str:
    file = folder / "lockgate.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            keys |= flat(value, f"{prefix}{key}.")
        else:
            keys[f"{prefix}{key}"] = value
    return keys


DEFAULTS = flat(msgspec.json.decode(msgspec.json.encode(Settings())))


def test_settings_file_lists_every_default() -> None:
    document = tomllib.loads((ROOT / "settings.toml").read_text(encoding="utf-8"))
    assert flat(document) == DEFAULTS
    assert {name: type(value) for name, value in flat(document).items()} == {
        name: type(value) for name, value in DEFAULTS.items()
    }


def test_settings_file_explains_every_key_in_one_line() -> None:
    lines = (ROOT / "settings.toml").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if " = " in line and not line.startswith("#"):
            assert lines[number - 1].startswith("# "), line
            assert not lines[number - 2].startswith("#"), line


def test_without_anything_the_defaults_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={}) == Settings()


def test_settings_file_in_the_working_directory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("settings.toml").write_text("server.port = 8123")
    assert load_settings(environ={}).server.port == 8123


def test_later_places_win(tmp_path: Path) -> None:
    config = write(tmp_path, "[server]\nport = 1\nhost = 'a'\nkeep_alive_timeout = 9")
    environ = {"LOCKGATE__SERVER__PORT": "2", "LOCKGATE__SERVER__HOST": "b"}
    options = [Override("--port", ("server", "port"), "3")]

    server = load_settings(config, environ=environ, options=options).server

    assert (server.port, server.host, server.keep_alive_timeout) == (3, "b", 9)


def test_variable_names_the_file_and_the_option_wins(tmp_path: Path) -> None:
    config = write(tmp_path, "server.port = 1")
    other = tmp_path / "other.toml"
    other.write_text("server.port = 2")
    environ = {"LOCKGATE_CONFIG": str(other)}
    assert load_settings(environ=environ).server.port == 2
    assert load_settings(config, environ=environ).server.port == 1


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("SERVER__PORT", "8001", 8001),
        ("server__port", "8001", 8001),
        ("SERVER__DRAIN_TIMEOUT", "2.5", 2.5),
        ("SERVER__DRAIN_TIMEOUT", "2", 2.0),
        ("MODEL__SERVED_NAME", "8001", "8001"),
        ("ENGINE__MAX_MODEL_LEN", "auto", "auto"),
        ("ENGINE__MAX_MODEL_LEN", "4096", 4096),
        ("ENGINE__LLAMA_CPP__USE_EXTRA_BUFTS", "false", False),
        ("ENGINE__LLAMA_CPP__USE_EXTRA_BUFTS", "True", True),
        ("ENGINE__LLAMA_CPP__NUM_THREADS", "2", 2),
        ("LOG__LEVEL", "debug", "debug"),
    ],
)
def test_variables_have_the_type_of_their_setting(
    tmp_path: Path, name: str, text: str, value: object
) -> None:
    settings = load_settings(write(tmp_path, ""), environ={f"LOCKGATE__{name}": text})
    found = flat(msgspec.to_builtins(settings))[name.lower().replace("__", ".")]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[engine]\nmax_seqs = 3",
            "$.engine.max_seqs is not a setting; did you mean max_num_seqs?",
        ),
        ("serverr.port = 3", "$.serverr is not a setting; did you mean server?"),
        ("[log]\nqqqq = 3", "$.log.qqqq is not a setting; known here: level, format"),
        ("[server]\nport = '3'", "$.server.port: expected a whole number, got '3'"),
        ("[server]\nport = true", "$.server.port: expected a whole number, got True"),
        ("[server]\nport = 70_000", "$.server.port: expected a whole number <= 65535, got 70000"),
        ("server = 3", "$.server: expected a table with the keys host, port"),
        ("[log]\nlevel = 'loud'", "$.log.level: expected 'debug' or 'info'"),
        (
            "[server]\ndrain_timeout = nan",
            "$.server.drain_timeout: expected a number >= 0.0, got nan",
        ),
        ("[server]\ndrain_timeout = inf", "$.server.drain_timeout: expected a number <= "),
        ("[server.port]\nx = 1", "$.server.port: expected a whole number, got a table"),
        (
            "[engine.llama_cpp]\nnum_threads = 'many'",
            "$.engine.llama_cpp.num_threads: expected a whole number or 'auto', got 'many'",
        ),
        (
            "server.allowed_hosts = 'x'",
            "allowed_hosts: expected a list, each item a string, got 'x'",
        ),
        ("server.allowed_hosts = [1]", "$.server.allowed_hosts[0]: expected a string, got 1"),
        ("gpu.devices = [0, -1]", "$.gpu.devices[1]: expected a whole number >= 0, got -1"),
        ("model.aliases = {a = 1}", "$.model.aliases.a: expected a string, got 1"),
        ("model.aliases = 1", "$.model.aliases: expected a table, each value a string, got 1"),
        (
            'model.aliases = {"" = "a"}',
            "$.model.aliases (a key): expected a string that is not empty",
        ),
        ("model.mirrors = ['a', '']", "$.model.mirrors[1]: expected a string that is not empty"),
        ("gpu.devices = ['0']", "$.gpu.devices[0]: expected a whole number, got '0'"),
        (
            "engine.tensorrt_llm.lora.adapters = {b = 'x', a = []}",
            "$.engine.tensorrt_llm.lora.adapters.a: expected a string, got []",
        ),
        ("port =", " is not valid TOML: "),
    ],
)
def test_mistake_in_the_file_names_file_and_path(tmp_path: Path, text: str, expected: str) -> None:
    config = write(tmp_path, text)
    with pytest.raises(SetupError) as caught:
        load_settings(config, environ={})
    message = str(caught.value)
    assert message.startswith(config)
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"LOCKGATE__SERVER__PORT": "x"},
            "LOCKGATE__SERVER__PORT: $.server.port: expected a whole",
        ),
        ({"LOCKGATE__SERVER__PORT": "-1"}, "$.server.port: expected a whole number >= 0, got '-1'"),
        ({"LOCKGATE__SERVER__PROT": "1"}, "$.server.prot is not a setting; did you mean port?"),
        ({"LOCKGATE__SERVER": "1"}, "$.server is a section; set one of its keys: host, port"),
        ({"LOCKGATE__SERVER__PORT__X": "1"}, "$.server.port has no keys"),
        (
            {"LOCKGATE__X": "1"},
            "$.x is not a setting; known here: server, auth, model, engine, gpu, log",
        ),
        ({"LOCKGATE__MODEL__ALIASES": '{"a": 1}'}, "$.model.aliases.a: expected a string, got 1"),
        ({"LOCKGATE__MODEL__ALIASES": "a=b"}, 'written as JSON, such as {"key": "value"}; got'),
        ({"LOCKGATE__MODEL__ALIASES__X": "1"}, "$.model.aliases is a table whose keys are your"),
        (
            {"LOCKGATE__SERVER__ALLOWED_HOSTS": "a"},
            'written as JSON, such as ["a", "b"]; got \'a\'',
        ),
        ({"LOCKGATE__GPU__DEVICES": "[0, -1]"}, "$.gpu.devices[1]: expected a whole number >= 0"),
        ({"LOCKGATE__LOG__LEVEL": "x", "lockgate__log__level": "y"}, "are the same setting"),
        ({"LOCKGATE_CONFIG": "no/such.toml"}, "no/such.toml cannot be read: "),
    ],
)
def test_mistake_in_a_variable_names_it(environ: dict[str, str], expected: str) -> None:
    with pytest.raises(SetupError) as caught:
        load_settings(environ=NO_FILE | environ)
    assert expected in str(caught.value)


def test_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SetupError, match="is not valid TOML"):
        load_settings(str(file), environ={})


def test_other_variables_are_left_alone(tmp_path: Path) -> None:
    environ = {"LOCKGATE_MODELS": "x", "LOCKGATE": "y", "PATH": "z"}
    assert load_settings(write(tmp_path, ""), environ=environ) == Settings()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["method=ngram", "max_draft_len=2"], None),
        (["method=nigram"], "--set: $.{0}.method: expected 'none' or 'ngram' or"),
        (["method=eagle3"], "settings: $.{0}: the key model is missing"),
        (["method=ngram", "model=x"], "settings: $.{0}.model is not a setting"),
    ],
)
def test_a_section_of_several_forms(options: list[str], expected: str | None) -> None:
    section = "engine.tensorrt_llm.speculative"
    overrides = [
        Override("--set", (*section.split("."), key), value)
        for key, value in (option.split("=") for option in options)
    ]
    if expected is None:
        settings = load_settings(environ=NO_FILE, options=overrides)
        assert settings.engine.tensorrt_llm.speculative == NGramSpeculation(max_draft_len=2)
        return
    with pytest.raises(SetupError) as raised:
        load_settings(environ=NO_FILE, options=overrides)
    assert str(raised.value).startswith(expected.format(section))


@given(
    path=st.lists(st.sampled_from(["server", "port", "engine", "llama_cpp", "", "x"]), max_size=4),
    text=st.text(max_size=8),
)
def test_any_override_is_taken_or_refused_in_one_line(path: list[str], text: str) -> None:
    """Nothing but `SetupError` comes out, whatever is asked for."""
    option = Override("--set", ("model", *path), text)
    outcome: Settings | str
    try:
        outcome = load_settings(environ=NO_FILE, options=[option])
    except SetupError as error:
        outcome = str(error)
    assert isinstance(outcome, Settings) or outcome.startswith("--set: $.model")


@given(name=st.sampled_from(sorted(DEFAULTS)))
def test_every_default_can_be_given_as_text(name: str) -> None:
    default = DEFAULTS[name]
    text = json.dumps(default) if isinstance(default, list) else str(default)
    option = Override(name, tuple(name.split(".")), text)
    assert load_settings(environ=NO_FILE, options=[option]) == Settings()


def test_a_default_that_the_engine_would_refuse() -> None:
    """A budget for thinking is not kept while tokens are drafted."""
    given = {
        "engine.name": "tensorrt_llm",
        "engine.tensorrt_llm.speculative.method": "ngram",
        "model.thinking_token_budget": "100",
    }

    def load(**changes: str) -> Settings:
        values = given | {name.replace("__", "."): value for name, value in changes.items()}
        options = [Override("--set", (*n.split("."),), v) for n, v in values.items()]
        return load_settings(environ=NO_FILE, options=options)

    with pytest.raises(SetupError, match=r"model\.thinking_token_budget cannot be kept"):
        load()
    load(model__thinking_token_budget="none")
    load(model__reasoning_parser="none")
    load(engine__name="llama_cpp")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Windows' editors write one."""
    file = tmp_path / "marked.toml"
    file.write_bytes(b"\xef\xbb\xbf[server]\nport = 1234\n")

    assert load_settings(str(file), environ={}).server.port == 1234
