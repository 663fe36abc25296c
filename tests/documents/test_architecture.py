"""The map of the code names places that exist."""

import re

from tests.kit.root import ROOT


def test_the_places_of_a_change_exist():
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition("### Where a change goes")[2].partition("\n## ")[0]
    places = re.findall(r"`((?:gateway|runtime|convert)/[\w/.]*)`", table)

    assert len(places) > 30
    assert [place for place in places if not (ROOT / place).exists()] == []
