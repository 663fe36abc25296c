"""Names of models that are no names of files, as Windows sees them."""

import errno
from pathlib import Path

import pytest

from runtime.errors import ModelNotFound
from runtime.models.store import ModelStore


@pytest.mark.parametrize("name", ["a?b", "user/repo:Q5:K", "<x>", "C:\\none\\x.gguf", "x.gguf"])
def test_a_name_that_no_file_can_have_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    """Windows calls it invalid where POSIX finds nothing."""

    def refuse(self: Path) -> None:
        raise OSError(errno.EINVAL, "The filename, directory name, or volume label is incorrect")

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(ModelNotFound, match="there is no model"):
        ModelStore(tmp_path, catalogue=()).find(name)


def test_a_path_that_toml_has_changed_is_shown_with_what_to_do(tmp_path: Path):
    with pytest.raises(ModelNotFound, match=r"'C:\\temp\\x0coo.gguf'; in TOML, .* single quotes"):
        ModelStore(tmp_path, catalogue=()).find("C:\temp\foo.gguf")
