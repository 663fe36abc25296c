"""What fits into the memory beside what is loaded."""

import os
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway.models.manager.gpu_memory import is_on_gpu
from gateway.models.manager.memory import OWN_BYTES, Footprint, MachineMemory, Need
from gateway.models.manager.spec import ModelSpec
from gateway.settings.schema import ModelSettings
from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppConfig
from tests.kit.models.tiny_model import write_tiny_model

SIZES = st.integers(0, 100)
FOOTPRINTS = st.lists(
    st.builds(Footprint, needed=SIZES, taken=SIZES, gpu_to_take=SIZES), max_size=4
)


@given(limit=SIZES, need=SIZES, loaded=FOOTPRINTS)
def test_a_limit_is_for_all_together(limit: int, need: int, loaded: list[Footprint]) -> None:
    memory = MachineMemory(limit, free=lambda: 0)
    together = need + sum(each.needed for each in loaded)
    assert (memory.missing(Need(ram=need), loaded) <= 0) == (together <= limit)


@given(free=SIZES, need=SIZES, loaded=FOOTPRINTS)
def test_what_others_have_yet_to_take_is_not_free(
    free: int, need: int, loaded: Sequence[Footprint]
) -> None:
    memory = MachineMemory(None, free=lambda: free)
    promised = sum(max(each.needed - each.taken, 0) for each in loaded)
    assert memory.missing(Need(ram=need), loaded) == max(need + promised - free, 0)


@pytest.mark.parametrize(
    ("need", "free", "loaded", "missing"),
    [
        (Need(ram=0, gpu=5), 8, [], -3),
        (Need(ram=0, gpu=5), 8, [Footprint(needed=0, gpu_to_take=4)], 1),
        (Need(ram=0, gpu=5), None, [], 0),
        (Need(ram=0), 0, [], 0),
        (Need(ram=103, gpu=5), 8, [], 3),
    ],
)
def test_gpus_are_looked_at_for_those_who_use_them(
    need: Need, free: int | None, loaded: list[Footprint], missing: int
) -> None:
    memory = MachineMemory(None, free=lambda: 100, gpu_free=lambda: free)
    assert memory.missing(need, loaded) == missing


def spec(path: str, memory_gb: float | None = None, **engine: object) -> ModelSpec:
    config = EngineConfig(**engine)  # type: ignore[arg-type]
    made = ModelSpec(name="m", path=path, model=ModelSettings(), engine=config)
    return made if memory_gb is None else structs.replace(made, memory_gb=memory_gb)


def test_estimates_grow_with_weights_and_cache(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path)
    memory, size = MachineMemory(None), path.stat().st_size
    short, long = (
        memory.estimate(spec(str(path), max_model_len=tokens)).ram for tokens in (1000, 2000)
    )
    assert long - short > 0
    assert short - (long - short) == OWN_BYTES + 2 * size
    plain = spec(str(path), max_model_len=1000, llama_cpp=LlamaCppConfig(repack_tensors=False))
    assert memory.estimate(plain).ram == short - size
    assert memory.estimate(spec(str(path), num_kv_tokens=2000)).ram == long
    assert memory.estimate(spec(str(path), 2.5)) == Need(ram=2_500_000_000)
    assert memory.estimate(spec("", name="scripted")) == Need(ram=OWN_BYTES)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(bytes(1000))
    estimate = memory.estimate(spec(str(folder), name="tensorrt_llm"))
    assert estimate == Need(ram=OWN_BYTES, gpu=1000)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ({}, False),
        ({"llama_cpp": LlamaCppConfig(num_gpu_layers=3)}, True),
        ({"name": "tensorrt_llm"}, True),
        ({"name": "scripted"}, False),
    ],
)
def test_what_is_on_gpus(engine: dict[str, object], expected: bool) -> None:
    assert is_on_gpu(spec("", **engine)) == expected


def test_a_process_is_measured() -> None:
    memory = MachineMemory(None)
    found = memory.footprint(os.getpid())
    assert found is not None
    assert found.needed > 10_000_000
    assert 0 < found.taken <= found.needed
    unused = max(psutil.pids()) + 100_000
    assert memory.footprint(unused) is None
