"""`docs/behaviours.md`: each row names tests, and they are there."""

import pytest

from tests.kit.document_tables import ROOT, named_tests, rows

TEXT = (ROOT / "docs" / "behaviours.md").read_text("utf-8")
ROWS = rows(TEXT, "| ")


def test_there_are_tables():
    assert len(ROWS) > 80
    assert len({row[0] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_tests_that_are_there(row: list[str]):
    behaviour, shown_by = row
    assert behaviour
    assert named_tests(shown_by), "no test is named"


def test_what_is_different_names_tests_that_are_there():
    assert named_tests(TEXT.partition("## What is different here")[2])
