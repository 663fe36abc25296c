"""Served models: what they say before, while and after they are loaded."""

import re

import pytest

from gateway.admission.keys import KeyRing
from gateway.app import create_app
from gateway.errors import UnknownModel
from gateway.http.context import Context
from gateway.models.registry import ModelRegistry
from gateway.models.served_model import ServedModel
from gateway.settings.schema import ModelSettings, Settings
from runtime.client.engine_client import EngineClient
from runtime.config.engine import EngineConfig
from runtime.errors import EngineUnavailable, SetupError
from tests.kit.engines import READY


def served_model() -> ServedModel:
    return ServedModel("m", EngineClient())


async def loaded_model() -> ServedModel:
    model = served_model()
    model.engine.connected(lambda message: None, READY)
    await model.load("")
    return model


def test_names():
    models = ModelRegistry([ServedModel("a/b", served_model().engine), served_model()])

    assert [model.name for model in models] == ["a/b", "m"]
    assert models.get("a/b").name == "a/b"
    with pytest.raises(UnknownModel):
        models.get("b")
    with pytest.raises(UnknownModel) as caught:
        models.get("x" * 100_000)
    assert len(str(caught.value)) < 500
    assert "`a/b`, `m`" in str(caught.value)


def named_models() -> ModelRegistry:
    return ModelRegistry([served_model()], adapters={"a": "m"}, aliases={"gpt": "m", "other": "a"})


def test_adapters_and_aliases():
    """An alias is answered in the name of what it stands for; an adapter in its own."""
    models = named_models()

    assert models.names == ["m", "a", "gpt", "other"]
    assert [(models.get(name).name, models.get(name).lora) for name in models.names] == [
        ("m", ""),
        ("a", "a"),
        ("m", ""),
        ("a", "a"),
    ]
    assert (models.base_of("a"), models.base_of("m")) == ("m", None)
    assert models.get("a").engine is models.get("m").engine
    assert models.get("a").system_fingerprint != models.get("m").system_fingerprint


@pytest.mark.parametrize(
    ("adapters", "aliases", "says"),
    [
        ({"m": "m"}, {}, "'m'"),
        ({}, {"gpt": "n"}, "no model 'n'; known here: a, m"),
        ({}, {"m": "a"}, "'m' is a model already"),
        ({}, {"a": "m"}, "'a' is a model already"),
        ({}, {"x": "m", "y": "x"}, "no model 'x'"),
    ],
)
def test_names_that_mean_two_things_or_none(adapters, aliases, says):
    with pytest.raises(SetupError, match=re.escape(says)):
        ModelRegistry([served_model()], adapters={"a": "m", **adapters}, aliases=aliases)


@pytest.mark.anyio
async def test_an_adapter_shares_what_has_been_loaded():
    model = await loaded_model()

    adapter = ModelRegistry([model], adapters={"a": "m"}).get("a")
    assert adapter.is_ready
    assert adapter.tokenizer is model.tokenizer


@pytest.mark.anyio
async def test_before_it_is_loaded():
    """Either half may be late: the engine or the tokenizer."""
    tokenizer_only, engine_only = served_model(), served_model()
    await tokenizer_only.load("")
    engine_only.engine.connected(lambda message: None, READY)
    for model in (served_model(), tokenizer_only, engine_only):
        assert not model.is_ready
        assert model.state_reason
        with pytest.raises(EngineUnavailable):
            _ = model.template
        with pytest.raises(EngineUnavailable):
            await model.encode(["x"], add_special=True)


@pytest.mark.anyio
async def test_loaded():
    model = await loaded_model()

    assert model.is_ready
    assert model.state_reason == ""
    assert model.max_model_len == 100
    assert model.decode([256, *"hé".encode()]) == "hé"


@pytest.mark.anyio
async def test_long_and_short_texts_are_encoded_alike():
    model = await loaded_model()
    text = "é" * 30_000

    long, short = await model.encode([text, "x"], add_special=False)

    assert long == list(text.encode())
    assert [short] == await model.encode(["x"], add_special=False)


@pytest.mark.anyio
async def test_a_tokenizer_that_cannot_be_read(tmp_path):
    """Said in the health report and to clients; the process lives."""
    model = served_model()
    model.engine.connected(lambda message: None, READY)
    await model.load(str(tmp_path / "missing.gguf"))

    assert not model.is_ready
    assert "tokenizer" in model.state_reason
    with pytest.raises(EngineUnavailable, match="tokenizer"):
        _ = model.tokenizer


@pytest.mark.anyio
async def test_fingerprint_changes_with_the_engine():
    before = served_model().system_fingerprint

    assert before.startswith("fp_")
    assert (await loaded_model()).system_fingerprint != before


def test_a_fingerprint_that_is_left_out():
    settings = ModelSettings(system_fingerprint=False)

    assert ServedModel("m", EngineClient(), settings).system_fingerprint is None


def test_served_name_of_a_folder(tmp_path):
    folder = tmp_path / "Tiny-1.5B"
    folder.mkdir()
    settings = Settings(model=ModelSettings(name_or_path=f"{folder}/"))

    assert create_app(settings, str(folder), KeyRing()).state.context.model.name == "Tiny-1.5B"


@pytest.mark.parametrize(
    ("model", "engine", "path", "name"),
    [
        (ModelSettings(), "llama_cpp", "x.gguf", "qwen2.5-coder-0.5b-instruct"),
        (ModelSettings(name_or_path="a/b.c.gguf"), "llama_cpp", "a/b.c.gguf", "b.c"),
        (ModelSettings(served_name="n"), "llama_cpp", "x.gguf", "n"),
        (ModelSettings(), "scripted", "", "scripted"),
    ],
)
def test_served_name(model, engine, path, name):
    settings = Settings(model=model, engine=EngineConfig(name=engine))

    context = create_app(settings, path, KeyRing()).state.context

    assert isinstance(context, Context)
    assert context.model.name == name
