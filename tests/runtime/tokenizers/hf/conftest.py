"""Checkpoint folders with small tokenizers."""

import shutil
from pathlib import Path

import pytest

from tests.kit.models.hf_folders import write_folder
from tests.runtime.tokenizers.hf.harness import KINDS, Pair


@pytest.fixture(scope="package", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("hf") / request.param
    return Pair(write_folder(folder, KINDS[request.param]()))


@pytest.fixture(scope="package")
def qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed; `copy` is for that."""
    return write_folder(tmp_path_factory.mktemp("hf") / "tiny-qwen2", KINDS["qwen2"]())


@pytest.fixture
def copy(qwen2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(qwen2, tmp_path / "tiny-qwen2"))
