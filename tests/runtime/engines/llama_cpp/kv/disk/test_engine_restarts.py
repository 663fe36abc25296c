"""The embedded engine reads back what an earlier one has left: real llama.cpp, tiny models."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppConfig, LlamaCppLoRAConfig, LoRAAdapter
from runtime.engines.llama_cpp.engine import LlamaCppEngine
from runtime.engines.llama_cpp.kv.disk import opening
from runtime.llama_library.installed import installed_families
from runtime.messages.engine import EngineUsage
from runtime.tokenizers.load import load_tokenizer
from tests.kit.disk_tiers import block_files
from tests.kit.engines import ONE_THREAD, a_request, engine_answers, needs_llama_library
from tests.kit.models.tiny_adapter import write_tiny_adapter
from tests.kit.models.tiny_model import write_tiny_model

needs_llama_library()

PROMPT = [10 + 7 * number % 200 for number in range(300)]


@contextmanager
def started(path: Path, folder: Path | str, **settings: Any) -> Iterator[LlamaCppEngine]:
    fields = {"llama_cpp": ONE_THREAD, "max_num_seqs": 4, "num_kv_tokens": 1024, **settings}
    config = EngineConfig(prefix_cache_folder=str(folder), prefix_cache_disk_gb=0.1, **fields)
    engine = LlamaCppEngine(config, str(path), load_tokenizer(str(path)))
    yield engine
    engine.close()


def answered(engine: LlamaCppEngine, lora: str = "") -> tuple[list[int], EngineUsage]:
    engine.take_usage()
    fields = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True}
    each = a_request("r", prompt_token_ids=PROMPT, lora=lora, **fields)
    output = engine_answers(engine, each)["r"]
    usage = engine.take_usage()
    assert usage.num_cached_tokens == output.num_cached_tokens
    return output.token_ids, usage


def test_a_restarted_engine_reads_back_what_it_had_computed(tiny_model_path: Path, tmp_path: Path):
    with started(tiny_model_path, tmp_path) as engine:
        computed, usage = answered(engine)
        assert usage.disk.num_hit_tokens == 0
    with started(tiny_model_path, tmp_path) as engine:
        read_back, usage = answered(engine)
        assert usage.disk.num_hit_tokens == 256
        assert usage.disk.num_read_bytes > 0
        from_memory, usage = answered(engine)
        assert usage.num_cached_tokens == len(PROMPT) - 1

    assert read_back == from_memory == computed


def test_cells_are_bit_for_bit_those_that_were_computed(tiny_model_path: Path, tmp_path: Path):
    """What is copied out again after reading back is what was written before."""
    with started(tiny_model_path, tmp_path / "one") as engine:
        answered(engine)
    before = {path.name: path.read_bytes() for path in block_files(tmp_path / "one")}
    with started(tiny_model_path, tmp_path / "one") as engine:
        engine.add(a_request("r", prompt_token_ids=PROMPT, max_tokens=1))
        while engine.num_running:
            engine.step()
            for path in block_files(tmp_path / "one"):
                path.unlink()  # and is written anew at the end
        engine._kv_cache._disk._store._used.clear()
        engine_answers(engine, a_request("again", prompt_token_ids=PROMPT, max_tokens=1))
    after = {path.name: path.read_bytes() for path in block_files(tmp_path / "one")}

    assert after
    assert after == {name: before[name] for name in after}


def with_adapters(**adapters: str | LoRAAdapter) -> LlamaCppConfig:
    return msgspec.structs.replace(ONE_THREAD, lora=LlamaCppLoRAConfig(adapters=adapters))


def test_what_an_adapter_has_computed_is_read_back_for_its_content_and_scale_alone(
    tiny_model_path: Path, tmp_path: Path
):
    one, two = str(tmp_path / "one.gguf"), str(tmp_path / "two.gguf")
    write_tiny_adapter(Path(one), seed=1)
    write_tiny_adapter(Path(two), seed=2)
    folder = tmp_path / "blocks"
    with started(tiny_model_path, folder, llama_cpp=with_adapters(sql=one)) as engine:
        computed, usage = answered(engine, "sql")
        assert answered(engine)[1].num_cached_tokens == 0
    with started(tiny_model_path, folder, llama_cpp=with_adapters(renamed=one)) as engine:
        read_back, usage = answered(engine, "renamed")
        assert usage.disk.num_hit_tokens == 256
        assert read_back == computed
    half = LoRAAdapter(path=one, scale=0.5)
    with started(tiny_model_path, folder, llama_cpp=with_adapters(sql=two, half=half)) as engine:
        assert answered(engine, "sql")[1].disk.num_hit_tokens == 0
        assert answered(engine, "half")[1].disk.num_hit_tokens == 0


@pytest.mark.parametrize("family", installed_families())
def test_sliding_windows_are_read_back(tmp_path: Path, family: str):
    """Blocks are no longer than a window where the library drops what a window has passed."""
    path = write_tiny_model(tmp_path / "gemma.gguf", window=16)
    library = msgspec.structs.replace(ONE_THREAD, library=family)
    with started(path, tmp_path / "blocks", llama_cpp=library) as engine:
        computed, _ = answered(engine)
    with started(path, tmp_path / "blocks", llama_cpp=library) as engine:
        read_back, usage = answered(engine)

    assert usage.disk.num_hit_tokens >= 256
    assert read_back == computed


def test_two_libraries_do_not_read_each_other_s_blocks(tiny_model_path: Path, tmp_path: Path):
    for family in installed_families():
        library = msgspec.structs.replace(ONE_THREAD, library=family)
        with started(tiny_model_path, tmp_path, llama_cpp=library) as engine:
            assert answered(engine)[1].num_cached_tokens == 0
        with started(tiny_model_path, tmp_path, llama_cpp=library) as engine:
            assert answered(engine)[1].num_cached_tokens == 256


def test_another_file_at_the_same_path_is_another_model(tmp_path: Path):
    path = write_tiny_model(tmp_path / "tiny.gguf")
    with started(path, tmp_path / "blocks") as engine:
        answered(engine)
    with open(path, "r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\0")
    with started(path, tmp_path / "blocks") as engine:
        assert answered(engine)[1].num_cached_tokens == 0


def test_a_block_that_the_library_does_not_take_is_computed(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As if a library had changed its format without changing its version."""
    with started(tiny_model_path, tmp_path) as engine:
        computed, _ = answered(engine)
    with started(tiny_model_path, tmp_path) as engine:
        real = engine._kv_cache._disk._store.read
        monkeypatch.setattr(engine._kv_cache._disk._store, "read", lambda key: real(key)[:-1])
        anew, usage = answered(engine)

    assert anew == computed
    assert usage.disk.num_hit_tokens == 0
    assert usage.disk.num_errors == 4


@pytest.mark.parametrize("gb", [0, 0.0])
def test_zero_keeps_nothing_on_disk(tiny_model_path: Path, tmp_path: Path, gb: float):
    config = EngineConfig(
        llama_cpp=ONE_THREAD, prefix_cache_folder=str(tmp_path), prefix_cache_disk_gb=gb
    )
    engine = LlamaCppEngine(config, str(tiny_model_path), load_tokenizer(str(tiny_model_path)))
    answered(engine)
    engine.close()

    assert not block_files(tmp_path)


def test_who_may_reuse_nothing_keeps_nothing(tiny_model_path: Path, tmp_path: Path):
    with started(tiny_model_path, tmp_path, prefix_caching="off") as engine:
        answered(engine)

    assert not block_files(tmp_path)


@pytest.mark.posix("permissions")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_into_which_others_may_write_is_not_used(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
):
    told: list[str] = []
    monkeypatch.setattr(opening.log, "warning", lambda event, **_: told.append(event))
    folder = tmp_path / "blocks"
    with started(tiny_model_path, folder) as engine:
        answered(engine)
    folder.chmod(mode)
    with started(tiny_model_path, folder) as engine:
        assert answered(engine)[1].num_cached_tokens == 0
    assert told == ["prefix_cache_disk_unused"]

    shutil.rmtree(folder)
