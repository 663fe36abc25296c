"""The tables of `docs/openai-compatibility.md`: each row names tests, and they are there."""

import re

import pytest

from gateway.admission.keys import KeyRing
from gateway.api.ops.openapi import document
from gateway.app import create_app
from tests.kit.document_tables import ROOT, named_tests, rows
from tests.kit.serving import scripted_settings

TEXT = (ROOT / "docs" / "openai-compatibility.md").read_text("utf-8")
ROWS = rows(TEXT, "| `")
"""Of the tables of fields and endpoints."""

FATES = ("honoured", "harmless", "refused")


def test_there_are_tables():
    assert len(ROWS) > 90
    assert len([row for row in ROWS if row[1] in FATES]) > 80


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_tests_that_are_there(row: list[str]):
    assert len(row) == (4 if row[1] in FATES else 3), "a row of fields has a fate"
    assert any("::" in name for name in named_tests(row[-1])), "no test is named"


def test_each_endpoint_has_a_row():
    told = "".join(row[0] for row in ROWS if len(row) == 3).replace("NAME", "{model_id}")
    paths = set(document(create_app(scripted_settings(), "", KeyRing()).routes)["paths"])

    assert paths == set(re.findall(r"/[\w/{}.]+", told))
