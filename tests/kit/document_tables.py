"""Tables of documents whose rows name tests."""

import ast
import re
from functools import cache

from tests.kit.root import ROOT

_TEST = r"`(test_\w+)::(test_\w+)`"
_FILE = r"`(compat_tests/(?:\w+/)*\w+\.py)`"


def rows(text: str, start: str) -> list[list[str]]:
    """The cells of every row that begins with `start`; headings and rulers are none."""
    lines = text.splitlines()
    headings = {number - 1 for number, line in enumerate(lines) if line.startswith("|---")}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for number, line in enumerate(lines)
        if line.startswith(start) and not line.startswith("|---") and number not in headings
    ]


@cache
def functions() -> set[str]:
    """Of all files of tests, whatever room they are in."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    trees = [ast.parse(file.read_text("utf-8")) for file in (ROOT / "tests").rglob("test_*.py")]
    return {node.name for tree in trees for node in tree.body if isinstance(node, kinds)}


def named_tests(text: str) -> list[str]:
    """The tests, as `file::test`, and the files of tests that a text names: all that looks like one
    is one, and there."""
    assert "test_" not in re.sub(f"{_TEST}|{_FILE}", "", text)
    named = re.findall(_TEST, text)
    for _, test in named:
        assert test in functions(), f"there is no {test}"
    files = re.findall(_FILE, text)
    for file in files:
        assert (ROOT / file).is_file()
    return [*map("::".join, named), *files]
