"""Servers of several models on scripted engines, each of which says its own name."""

from typing import Any

import msgspec

from gateway.settings.schema import Settings
from gateway.settings.several_models import with_general_settings
from tests.kit.serving import RunningServer, wait_for


def several_settings(models: dict[str, dict[str, Any]], **sections: Any) -> Settings:
    """A model for each table; a model named "a" answers "a a a a " and so on."""
    tables = {
        name: {**table, "engine": _engine(name, table.get("engine", {}))}
        for name, table in models.items()
    }
    document = {"models": tables, "engine": {"name": "scripted"}, **sections}
    return msgspec.convert(with_general_settings(document), Settings)


def _engine(name: str, engine: dict[str, Any]) -> dict[str, Any]:
    return {**engine, "scripted": {"text": f"{name} ", **engine.get("scripted", {})}}


def ask(server: RunningServer, model: str, **body: Any) -> str:
    """What a model says in eight tokens."""
    response = server.chat(model=model, max_tokens=8, temperature=0, **body)
    assert response.status_code == 200, response.text
    assert response.json()["model"] == model
    return str(response.json()["choices"][0]["message"]["content"])


def says_its_name(text: str, name: str) -> bool:
    """Whether a text is a part of what a model repeats, which may begin anywhere."""
    return bool(text) and text in f"{name} " * (len(text) + 1)


def states(server: RunningServer) -> dict[str, str]:
    return {name: each["state"] for name, each in server.health()["models"].items()}


def until_state(server: RunningServer, name: str, state: str) -> None:
    wait_for(lambda: states(server)[name] == state)
