"""The tables of `docs/openai-compatibility.md`: each row names tests, and they are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from gateway.app import create_app
from gateway.openapi import document
from tests.serving import scripted_settings

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "openai-compatibility.md").read_text("utf-8")
FATES = ("honoured", "harmless", "refused")


def rows() -> list[list[str]]:
    """The cells of every row of the tables of fields and endpoints."""
    lines = [line for line in TEXT.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@cache
def functions_of(name: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / f"{name}.py").read_text("utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in tree.body if isinstance(node, kinds)}


def test_there_are_tables():
    assert len(rows()) > 90
    assert len([row for row in rows() if row[1] in FATES]) > 80


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_names_tests_that_are_there(row: list[str]):
    assert len(row) == (4 if row[1] in FATES else 3), "a row of fields has a fate"
    named = re.findall(r"`(test_\w+)::(test_\w+)`", row[-1])

    assert named, "no test is named"
    assert "test_" not in re.sub(r"`(test_\w+::test_\w+|compat_tests/\w+\.py)`", "", row[-1])
    for file, test in named:
        assert test in functions_of(file), f"{file} has no {test}"
    for file in re.findall(r"`(compat_tests/\w+\.py)`", row[-1]):
        assert (ROOT / file).is_file()


def test_each_endpoint_has_a_row():
    told = "".join(row[0] for row in rows() if len(row) == 3).replace("NAME", "{model_id}")
    paths = set(document(create_app(scripted_settings(), "").routes)["paths"])

    assert paths == set(re.findall(r"/[\w/{}.]+", told))
