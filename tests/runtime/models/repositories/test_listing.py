"""Which file of a repository a name means."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ModelFileError, ModelNotFound, PullError
from runtime.models.gguf import part_names
from runtime.models.repositories.listing import (
    Form,
    Listing,
    RemoteFile,
    choose,
    is_model,
    memory_needed,
    quantisation_of,
)
from runtime.models.repositories.names import HubName

GB = 1_000_000_000
SIZES = {"Q2_K": 2, "Q4_K_M": 4, "Q5_K_M": 5, "Q8_0": 8, "BF16": 16}


def listing(**files: int) -> Listing:
    entries = (
        RemoteFile(
            path=path, size=size, oid=hashlib.sha256(path.encode()).hexdigest(), is_large=True
        )
        for path, size in files.items()
    )
    return Listing(repository="u/r", commit="0" * 40, ref="main", files=tuple(entries))


def quantised(*kinds: str) -> Listing:
    return listing(**{f"m-{kind}.gguf": SIZES[kind] * GB for kind in kinds})


def chosen(found: Listing, tag: str = "", file: str = "", form: Form = "any", memory: int = 0):
    name = HubName(repository="u/r", tag=tag, file=file)
    return choose(found, name, form=form, memory=memory)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("m-Q4_K_M.gguf", "Q4_K_M"),
        ("m.q5_0.gguf", "Q5_0"),
        ("UD/m-UD-IQ2_XXS-00001-of-00003.gguf", "UD-IQ2_XXS"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("m-bf16.gguf", "BF16"),
        ("m-TQ1_0.gguf", "TQ1_0"),
        ("Qwen3-8B.gguf", ""),
        ("Q8_0.gguf", "Q8_0"),
        ("m-Q4_K_M-2507.gguf", ""),
    ],
)
def test_the_quantisation_is_the_end_of_the_name(path: str, kind: str):
    assert quantisation_of(path) == kind


@pytest.mark.parametrize(
    "path",
    [
        *("mmproj-F16.gguf", "m-mmproj-Q8_0.gguf", "a/MMPROJ.gguf", "imatrix.gguf"),
        *("m.imatrix.gguf", "mtp-m-Q8_0.gguf", "EAGLE3-m.gguf", "dflash-m.gguf", "a/dspark-m.gguf"),
        *("m-00002-of-00002.gguf", "m.bin", "README.md", "m.gguf.part"),
    ],
)
def test_what_lies_beside_a_model_is_no_model(path: str):
    assert not is_model(path)
    if path.endswith(".gguf"):
        with pytest.raises(ModelFileError, match="is not a model but"):
            chosen(listing(**{path: 1}), file=path)


def test_a_model_made_with_an_importance_matrix_is_a_model():
    assert is_model("m-imatrix-Q4_K_M.gguf")


@pytest.mark.parametrize(
    ("tag", "path"),
    [
        ("q4_k_m", "m-Q4_K_M.gguf"),
        ("Q4_K_M", "m-Q4_K_M.gguf"),
        ("Q8_0", "big/m-Q8_0-00001-of-00002.gguf"),
        ("UD-Q4_K_M", "m-UD-Q4_K_M.gguf"),
        ("K_S", "m-Q4_K_S.gguf"),
        ("BF16", "BF16/m-BF16-00001-of-00002.gguf"),
    ],
)
def test_a_tag_is_found_in_the_name_of_the_file(tag: str, path: str):
    paths = ["m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "mmproj-BF16.gguf", "a.md"]
    for stem in ("big/m-Q8_0", "BF16/m-BF16"):
        paths += [f"{stem}-00001-of-00002.gguf", f"{stem}-00002-of-00002.gguf"]
    found = chosen(listing(**dict.fromkeys(paths, 10)), tag=tag)
    assert [file.path for file in found.files] == part_names(path)


def test_a_tag_is_no_beginning_of_another():
    with pytest.raises(ModelNotFound, match=r"no quantisation Q4_K\. It has: Q4_K_M, Q8_0"):
        chosen(quantised("Q4_K_M", "Q8_0"), tag="Q4_K")


@pytest.mark.parametrize(
    ("kinds", "memory", "kind"),
    [
        (SIZES, 0, "Q4_K_M"),
        (SIZES, 20, "Q4_K_M"),
        (SIZES, 4, "Q2_K"),
        (["Q5_K_M", "Q8_0", "BF16"], 20, "Q8_0"),
        (["Q5_K_M", "Q8_0", "BF16"], 7, "Q5_K_M"),
        (["Q2_K", "Q5_K_M", "BF16"], 10, "Q5_K_M"),
        (["Q2_K", "Q5_K_M", "BF16"], 0, "BF16"),
    ],
)
def test_without_a_tag_the_best_that_fits_is_taken(kinds: list[str], memory: int, kind: str):
    assert chosen(quantised(*kinds), memory=memory * GB).quantisation == kind


@given(
    st.sets(st.sampled_from(sorted(SIZES)), min_size=1),
    st.integers(1, 20).map(lambda count: count * GB),
    st.sampled_from(["", *SIZES]),
)
def test_what_is_taken_fits_or_is_refused_with_what_does(kinds: set[str], memory: int, tag: str):
    there = quantised(*sorted(kinds))
    fitting = {kind for kind in kinds if memory_needed(SIZES[kind] * GB) <= memory}
    if tag not in ("", *kinds):
        with pytest.raises(ModelNotFound, match=", ".join(sorted(kinds))):
            chosen(there, tag=tag, memory=memory)
    elif not fitting & ({tag} if tag else kinds):
        with pytest.raises(PullError) as caught:
            chosen(there, tag=tag, memory=memory)
        assert all(kind in str(caught.value) for kind in fitting)
    else:
        found = chosen(there, tag=tag, memory=memory)
        assert found.quantisation in ({tag} if tag else fitting)


def test_a_split_file_counts_as_a_whole():
    parts = dict.fromkeys(part_names("m-Q8_0-00001-of-00003.gguf"), GB)
    assert chosen(listing(**parts)).num_bytes == 3 * GB
    with pytest.raises(PullError, match=r"needs 3\.1 GB of memory, and 2\.0 GB"):
        chosen(listing(**parts), memory=2 * GB)
    del parts["m-Q8_0-00002-of-00003.gguf"]
    with pytest.raises(ModelFileError, match=r"lacks m-Q8_0-00002-of-00003\.gguf"):
        chosen(listing(**parts))


def test_a_later_part_is_told_from_the_first():
    with pytest.raises(ModelFileError, match=r"later part .* m-00001-of-00002\.gguf"):
        chosen(listing(), file="m-00002-of-00002.gguf")


FOLDER = {"config.json": 1, "model.safetensors": 9, "tokenizer.json": 2, "onnx/model.onnx": 9}


def test_a_repository_without_gguf_files_is_a_folder():
    more = {"consolidated.safetensors": 9, "pytorch_model.bin": 9, "flax_model.msgpack": 9}
    found = chosen(listing(**FOLDER, **more))
    assert found.is_folder
    names = ["config.json", "tokenizer.json", "model.safetensors"]
    assert [file.path for file in found.files] == names


@pytest.mark.parametrize(("form", "is_folder"), [("folder", True), ("gguf", False), ("any", False)])
def test_of_both_forms_the_engine_takes_its_own(form: Form, is_folder: bool):
    both = listing(**FOLDER, **{"m-Q4_K_M.gguf": 5})
    assert chosen(both, form=form).is_folder is is_folder


@pytest.mark.parametrize("tag", ["", "Q4_K_M"])
def test_a_repository_of_pickles_is_refused_by_name(tag: str):
    with pytest.raises(ModelFileError, match=r"u/r/pytorch_model\.bin is a pickle"):
        chosen(listing(**{"config.json": 1, "pytorch_model.bin": 9}), tag=tag)


def test_a_folder_has_no_quantisations():
    with pytest.raises(ModelNotFound, match="checkpoint folder, and its name is u/r alone"):
        chosen(listing(**FOLDER), tag="Q4_K_M")


@pytest.mark.parametrize(
    "path", ["../m-Q4_0.gguf", "a/../../m-Q4_0.gguf", "/m-Q4_0.gguf", "c:m-Q4_0.gguf"]
)
def test_a_path_that_leads_out_is_refused_wherever_it_comes_from(path: str):
    with pytest.raises(PullError, match="unsafe file name"):
        chosen(listing(**{path: 1}))
