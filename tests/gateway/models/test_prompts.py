"""Which prompts an embedding model wants before its texts."""

import json
from pathlib import Path

import pytest

from gateway.models.prompts import CONFIG_NAME, ROLES, find_prompts
from tests.kit.models.tiny_encoder import write_tiny_encoder


def an_encoder(folder: Path, name: str = "") -> str:
    write_tiny_encoder(folder / "encoder.gguf", "mean", name=name or "tiny")
    return str(folder / "encoder.gguf")


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("E5 Small V2", "query: ", "passage: "),
        ("multilingual-e5-large", "query: ", "passage: "),
        ("bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("Snowflake Arctic Embed L V2.0", "query: ", ""),
        ("embeddinggemma-300m", "task: search result | query: ", "title: none | text: "),
        ("all-MiniLM-L6-v2", "", ""),
        ("bge-m3", "", ""),
        ("tiny-e5", "", ""),
    ],
)
def test_known_models_by_their_names(tmp_path: Path, name: str, query: str, document: str):
    prompts = find_prompts(an_encoder(tmp_path, name), "auto")

    assert (prompts.of("query"), prompts.of("document")) == (query, document)
    assert bool(prompts.by_role) == bool(query)


def test_a_file_beside_the_model_wins_over_its_name(tmp_path: Path):
    prompts = {"query": "q: ", "passage": "p: ", "Clustering": "c: ", "odd": "x"}
    (tmp_path / CONFIG_NAME).write_text(json.dumps({"prompts": prompts}), "utf-8")
    found = find_prompts(an_encoder(tmp_path, "e5-small"), "auto")

    assert found.by_role == {"query": "q: ", "document": "p: ", "clustering": "c: "}
    assert find_prompts(str(tmp_path), "auto").by_role == found.by_role


def test_the_setting_wins_over_all(tmp_path: Path):
    (tmp_path / CONFIG_NAME).write_text('{"prompts": {"query": "q: "}}', "utf-8")
    found = find_prompts(an_encoder(tmp_path, "e5-small"), {"document": "d: "})

    assert (found.of("query"), found.of("document")) == ("", "d: ")


def test_a_broken_file_is_passed_over(tmp_path: Path):
    (tmp_path / CONFIG_NAME).write_text("{", "utf-8")

    assert find_prompts(an_encoder(tmp_path, "e5-small"), "auto").of("query") == "query: "


def test_without_a_model_there_is_none():
    assert not find_prompts("", "auto").by_role


def test_every_role_has_its_own_name():
    assert {role: ROLES[role] for role in set(ROLES.values())} == {r: r for r in ROLES.values()}
