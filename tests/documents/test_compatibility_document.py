"""The tables of `docs/openai-compatibility.md`: fields with their status, and all endpoints."""

import re

import pytest

from gateway.admission.keys import KeyRing
from gateway.api.ops.openapi import document
from gateway.app import create_app
from tests.kit.document_tables import rows
from tests.kit.root import ROOT
from tests.kit.serving import scripted_settings

TEXT = (ROOT / "docs" / "openai-compatibility.md").read_text("utf-8")
ROWS = rows(TEXT, "| `")
"""Of the tables of fields and endpoints."""

FATES = ("honoured", "harmless", "refused")


def test_there_are_tables():
    assert len(ROWS) > 90
    assert len([row for row in ROWS if row[1] in FATES]) > 80


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_of_fields_has_a_fate(row: list[str]):
    assert len(row) == (3 if row[1] in FATES else 2)


def test_each_endpoint_has_a_row():
    told = "".join(row[0] for row in ROWS if len(row) == 2).replace("NAME", "{model_id}")
    paths = set(document(create_app(scripted_settings(), "", KeyRing()).routes)["paths"])

    assert paths == set(re.findall(r"/[\w/{}.]+", told))
