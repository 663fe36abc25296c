"""Which names mean a repository, and what they never reach."""

from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ModelFileError, ModelNotFound
from runtime.models.repositories.names import HubName, WebName, is_safe_path, parse_name

MIRROR = "https://mirror.example/hub"


@pytest.mark.parametrize(
    ("text", "repository", "tag", "file", "revision"),
    [
        ("user/repo", "user/repo", "", "", ""),
        ("user/repo:Q5_K_M", "user/repo", "Q5_K_M", "", ""),
        ("user/repo:latest", "user/repo", "", "", ""),
        ("user/repo:a-Q8_0.gguf", "user/repo", "", "a-Q8_0.gguf", ""),
        ("user/repo/a.gguf", "user/repo", "", "a.gguf", ""),
        ("user/repo/sub/dir/a.GGUF", "user/repo", "", "sub/dir/a.GGUF", ""),
        ("hf.co/user/repo:q4_0", "user/repo", "q4_0", "", ""),
        ("HF.co/user/repo", "user/repo", "", "", ""),
        ("huggingface.co/user/repo/a.gguf", "user/repo", "", "a.gguf", ""),
        ("https://huggingface.co/user/repo", "user/repo", "", "", ""),
        ("https://hf.co/user/repo:Q4_0", "user/repo", "Q4_0", "", ""),
        ("https://huggingface.co/user/repo/tree/main", "user/repo", "", "", "main"),
        ("https://huggingface.co/u/r/blob/v1.0/s/a.gguf", "u/r", "", "s/a.gguf", "v1.0"),
        ("https://hf.co/u/r/resolve/main/a%20b.gguf?download=true", "u/r", "", "a b.gguf", "main"),
        (f"{MIRROR}/user/repo/resolve/main/a.gguf", "user/repo", "", "a.gguf", "main"),
        ("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "Qwen/Qwen2.5-0.5B-Instruct-GGUF", "", "", ""),
    ],
)
def test_names_of_repositories(text: str, repository: str, tag: str, file: str, revision: str):
    found = parse_name(text, MIRROR)
    assert isinstance(found, HubName)
    assert (found.repository, found.tag, found.file) == (repository, tag, file)
    assert found.revision == revision


@pytest.mark.parametrize(
    "text",
    [
        *("name", "./a/b", "../a/b", "/a/b", "~/a/b", "a//b", "a/b/c", "a/b/", "", "a/x.gguf"),
        *("C:/models/x.gguf", r"a\b", "a/b:c:d", "a/b:", "a--b/c", "a/b..c", "a/.b", "-a/b"),
        *("a/b.git", f"{'a' * 97}/b", "a/b\n", "a b/c", "ä/b", "a/b:Q4/x"),
    ],
)
def test_what_is_left_to_paths_and_the_catalogue(text: str):
    assert parse_name(text, MIRROR) is None


@pytest.mark.parametrize("end", [".bin", ".pt", ".ckpt", ".pth", ".PKL"])
@pytest.mark.parametrize("start", ["u/r/", "hf.co/u/r/s/", "https://hf.co/u/r/resolve/main/"])
def test_a_pickle_is_refused_by_name(start: str, end: str):
    with pytest.raises(ModelFileError, match=rf"model{end} is a pickle"):
        parse_name(f"{start}model{end}")


@pytest.mark.parametrize(
    "text",
    [
        *("hf.co/user", "hf.co/a/b/c", "hf.co/../b", "https://hf.co/a--b/c", "https://hf.co/"),
        *("https://hf.co/u/r/blob/../a.gguf", "https://hf.co/u/r/resolve/main/../../a.gguf"),
        *("https://hf.co/u/r/resolve/main/%2e%2e/a.gguf", "u/r/../../a.gguf", "u/r/s//a.gguf"),
        *("u/r/C:\\a.gguf", "u/r/a\\..\\b.gguf", "u/r/c:a.gguf", "u/r/con.gguf", "u/r/s./a.gguf"),
        *("https://example.org/a.zip", "https://[x/a.gguf", "https://example.org/..%5ca.gguf"),
    ],
)
def test_what_is_nearly_a_name_is_refused(text: str):
    with pytest.raises(ModelNotFound):
        parse_name(text, MIRROR)


def test_a_shard_of_a_folder_is_told_from_its_repository():
    with pytest.raises(ModelFileError, match="Name the repository alone"):
        parse_name("u/r/model-00001-of-00002.safetensors")


def test_another_server_has_files_and_no_names():
    found = parse_name("https://user:secret@example.org/a/b/x.gguf?token=1", MIRROR)
    assert found == WebName(url="https://user:secret@example.org/a/b/x.gguf?token=1", file="x.gguf")
    with pytest.raises(ModelNotFound) as caught:
        parse_name("https://user:secret@example.org/a/b/x.zip")
    assert "secret" not in str(caught.value)


PIECES = st.sampled_from(
    ["..", ".", "", "a", "b.gguf", "\\", "C:", "/", "con", "a.", " ", "%2e%2e", "\0", "é", "x:y"]
)


@given(st.lists(PIECES, max_size=6).map("/".join), st.sampled_from(["", "hf.co/", "u/r/"]))
def test_no_name_leads_out_of_a_folder(text: str, start: str):
    try:
        found = parse_name(start + text)
    except (ModelNotFound, ModelFileError):
        return
    if isinstance(found, HubName):
        assert ".." not in found.repository
        for kind in (PurePosixPath, PureWindowsPath):
            path = kind(found.repository, found.file)
            assert not path.is_absolute()
            assert ".." not in path.parts
        assert not PureWindowsPath(found.file).drive


@given(st.text(max_size=12))
def test_a_safe_path_has_one_meaning_everywhere(path: str):
    if is_safe_path(path):
        assert PurePosixPath(path).parts == PureWindowsPath(path).parts
