"""The table of GPUs against what its figures are made of."""

import pytest

from runtime.errors import SetupError
from runtime.hardware.gpu_table import GPUS, GpuSpec, find_gpu, match_gpu

# Bus width in bits and transfer rate of a pin in Gbit/s, from the cards' product pages.
MEMORY = {
    "rtx-3060": (192, 15.0),
    "rtx-3060-ti": (256, 14.0),
    "rtx-3070": (256, 14.0),
    "rtx-3070-ti": (256, 19.0),
    "rtx-3080": (320, 19.0),
    "rtx-3080-12gb": (384, 19.0),
    "rtx-3080-ti": (384, 19.0),
    "rtx-3090": (384, 19.5),
    "rtx-3090-ti": (384, 21.0),
    "rtx-4060": (128, 17.0),
    "rtx-4060-ti": (128, 18.0),
    "rtx-4060-ti-16gb": (128, 18.0),
    "rtx-4070": (192, 21.0),
    "rtx-4070-super": (192, 21.0),
    "rtx-4070-ti": (192, 21.0),
    "rtx-4070-ti-super": (256, 21.0),
    "rtx-4080": (256, 22.4),
    "rtx-4080-super": (256, 23.0),
    "rtx-4090": (384, 21.0),
    "rtx-5060": (128, 28.0),
    "rtx-5060-ti": (128, 28.0),
    "rtx-5060-ti-16gb": (128, 28.0),
    "rtx-5070": (192, 28.0),
    "rtx-5070-ti": (256, 28.0),
    "rtx-5080": (256, 30.0),
    "rtx-5090": (512, 28.0),
    "rtx-a6000": (384, 16.0),
    "rtx-6000-ada": (384, 20.0),
    "rtx-pro-6000": (512, 28.0),
    "l4": (192, 12.5),
    "l40": (384, 18.0),
    "l40s": (384, 18.0),
    "a10": (384, 12.5),
    "a30": (3072, 2.43),
    "a100-40gb": (5120, 2.43),
    "a100-pcie-40gb": (5120, 2.43),
    "a100-80gb": (5120, 3.186),
    "a100-pcie-80gb": (5120, 3.024),
    "h100": (5120, 5.239),
    "h200": (6144, 6.25),
    "gh200": (6144, 5.2),
    "b200": (8192, 7.8),
}

# CUDA cores and boost clock in GHz of GeForce cards: two operations for each core and cycle in
# FP32, and the tensor cores twice that in FP16 with 32-bit accumulation.
CORES = {
    "rtx-3060": (3584, 1.777),
    "rtx-3060-ti": (4864, 1.665),
    "rtx-3070": (5888, 1.725),
    "rtx-3070-ti": (6144, 1.770),
    "rtx-3080": (8704, 1.710),
    "rtx-3080-12gb": (8960, 1.710),
    "rtx-3080-ti": (10_240, 1.665),
    "rtx-3090": (10_496, 1.695),
    "rtx-3090-ti": (10_752, 1.860),
    "rtx-4060": (3072, 2.460),
    "rtx-4060-ti": (4352, 2.535),
    "rtx-4070": (5888, 2.475),
    "rtx-4070-super": (7168, 2.475),
    "rtx-4070-ti": (7680, 2.610),
    "rtx-4070-ti-super": (8448, 2.610),
    "rtx-4080": (9728, 2.505),
    "rtx-4080-super": (10_240, 2.550),
    "rtx-4090": (16_384, 2.520),
    "rtx-5060": (3840, 2.497),
    "rtx-5060-ti": (4608, 2.572),
    "rtx-5070": (6144, 2.512),
    "rtx-5070-ti": (8960, 2.452),
    "rtx-5080": (10_752, 2.617),
    "rtx-5090": (21_760, 2.407),
}


@pytest.mark.parametrize("name", MEMORY)
def test_bandwidth_is_bus_times_rate(name: str) -> None:
    bits, gbit = MEMORY[name]
    assert find_gpu(name).bandwidth == pytest.approx(bits / 8 * gbit * 1e9, rel=0.01)


@pytest.mark.parametrize("name", CORES)
def test_peak_rate_is_cores_times_clock(name: str) -> None:
    cores, ghz = CORES[name]
    assert find_gpu(name).fp16_flops == pytest.approx(2 * 2 * cores * ghz * 1e9, rel=0.01)


def test_fp8_is_twice_fp16_and_only_from_ada_on() -> None:
    for gpu in GPUS:
        assert gpu.fp16_flops is not None
        assert (gpu.fp8_flops is not None) == (gpu.compute_capability >= (8, 9)), gpu.name
        if gpu.fp8_flops is not None:
            assert gpu.fp8_flops == pytest.approx(2 * gpu.fp16_flops, rel=0.02)


def test_names_are_there_once() -> None:
    assert len({gpu.name for gpu in GPUS}) == len(GPUS)


@pytest.mark.parametrize(
    "spelling", ["rtx-4070", "RTX 4070", "rtx_4070", "NVIDIA GeForce RTX 4070", "GeForce RTX 4070"]
)
def test_a_name_may_be_written_in_many_ways(spelling: str) -> None:
    assert find_gpu(spelling).name == "rtx-4070"


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_every_gpu_is_found_by_its_name_and_by_its_driver(gpu: GpuSpec) -> None:
    assert find_gpu(gpu.name) is gpu
    assert match_gpu(gpu.nvml_name, round(gpu.memory_bytes * 0.99)) is gpu


@pytest.mark.parametrize(
    ("name", "close"),
    [("4070", "rtx-4070"), ("rtx-4071", "rtx-4070"), ("4071", "rtx-4070"), ("h1000", "h100")],
)
def test_an_unknown_name_lists_the_known_ones(name: str, close: str) -> None:
    with pytest.raises(SetupError) as caught:
        find_gpu(name)
    assert f"Did you mean {close}" in str(caught.value)
    for gpu in GPUS:
        assert gpu.name in str(caught.value)


def test_nothing_like_it_is_no_hint() -> None:
    with pytest.raises(SetupError) as caught:
        find_gpu("")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("nvml_name", "gib", "name"),
    [
        ("NVIDIA GeForce RTX 3080", 10, "rtx-3080"),
        ("NVIDIA GeForce RTX 3080", 12, "rtx-3080-12gb"),
        ("NVIDIA GeForce RTX 4060 Ti", 16, "rtx-4060-ti-16gb"),
        ("NVIDIA GeForce RTX 3060", 12, "rtx-3060"),
        ("NVIDIA GeForce RTX 3060", 8, None),  # another card, with a narrower bus
        ("NVIDIA GeForce RTX 4070 Laptop GPU", 8, None),
    ],
)
def test_of_two_sizes_the_memory_decides(nvml_name: str, gib: int, name: str | None) -> None:
    found = match_gpu(nvml_name, gib << 30)
    assert (found.name if found else None) == name
