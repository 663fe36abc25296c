"""The catalogue's file: the shipped one is complete, and a wrong one says what is wrong."""

from pathlib import Path

import pytest

from runtime.errors import SetupError
from runtime.models.catalogue import CatalogueEntry, read_catalogue, shipped_catalogue

ENTRY = f"""
[[models]]
name = "tiny"
file = "tiny.gguf"
size = 30
sha256 = "{"0" * 64}"
licence = "Apache-2.0"
[models.hub]
repo_id = "owner/tiny"
revision = "{"a" * 40}"
file = "tiny-q4.gguf"
[models.wheels]
version = "1.0"
parts = [
  {{ package = "tiny-1", member = "tiny_1/part", size = 10 }},
  {{ package = "tiny-2", member = "tiny_2/part", size = 20 }},
]
"""


@pytest.mark.parametrize("entry", shipped_catalogue(), ids=lambda entry: entry.name)
def test_entry_of_the_shipped_catalogue_is_complete(entry: CatalogueEntry) -> None:
    assert len(bytes.fromhex(entry.sha256)) == 32
    assert entry.hub or entry.wheels
    if entry.hub is not None:
        assert entry.hub.file == entry.file
    if entry.wheels is not None:
        assert sum(part.size for part in entry.wheels.parts) == entry.size
        for part in entry.wheels.parts:
            assert part.member.startswith(f"{part.package.replace('-', '_')}/data/")


def test_the_default_model_is_on_the_hub_and_in_wheels() -> None:
    default = shipped_catalogue()[0]
    assert default.name == "qwen2.5-coder-0.5b-instruct"
    assert default.hub is not None
    assert default.wheels is not None


def test_file_becomes_entries(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.toml"
    file.write_text(ENTRY)
    [entry] = read_catalogue(file)
    assert (entry.name, entry.size, entry.licence) == ("tiny", 30, "Apache-2.0")
    assert entry.hub is not None
    assert entry.hub.file == "tiny-q4.gguf"
    assert entry.wheels is not None
    assert [part.package for part in entry.wheels.parts] == ["tiny-1", "tiny-2"]


def without(start: str, end: str = "") -> str:
    """The entry without the lines from `start` to before `end`."""
    before, _, rest = ENTRY.partition(start)
    return before + (end + rest.partition(end)[2] if end else "")


MISTAKES = [
    ("models = [", "is not valid TOML: "),
    ("", "is wrong: Object missing required field `models`"),
    ("models = 1", "is wrong: Expected `array`, got `int` - at `$.models`"),
    (ENTRY.replace("licence", "license"), "unknown field `license` - at `$.models[0]`"),
    (without("licence", "[models.hub]"), "missing required field `licence` - at `$.models[0]`"),
    (ENTRY.replace("00", "0G"), "regex '^[0-9a-f]{64}$' - at `$.models[0].sha256`"),
    (ENTRY.replace('"tiny.gguf"', '"../tiny.gguf"'), "- at `$.models[0].file`"),
    (ENTRY.replace('"tiny"', '"Tiny 1"'), "- at `$.models[0].name`"),
    (ENTRY.replace("a" * 40, "main"), "- at `$.models[0].hub.revision`"),
    (ENTRY.replace("owner/tiny", "tiny"), "- at `$.models[0].hub.repo_id`"),
    (ENTRY.replace('"tiny-1"', '"--pre"'), "- at `$.models[0].wheels.parts[0].package`"),
    (ENTRY.replace("size = 10", "size = 0"), "- at `$.models[0].wheels.parts[0].size`"),
    (ENTRY.replace("size = 10", "size = 11"), "the wheels of tiny hold 31 bytes, not 30"),
    (without("[models.hub]"), "tiny has neither a hub file nor wheels"),
    (ENTRY + ENTRY, "two models have tiny"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "catalogue.toml"
    file.write_text(text)
    with pytest.raises(SetupError) as caught:
        read_catalogue(file)
    assert str(caught.value).startswith(f"the catalogue {file} is ")
    assert message in str(caught.value)


def test_missing_file_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.toml"
    with pytest.raises(SetupError, match=r"catalogue\.toml cannot be read: No such file"):
        read_catalogue(file)
    file.write_bytes(b"\xff")
    with pytest.raises(SetupError, match=r"catalogue\.toml is not valid TOML: "):
        read_catalogue(file)
