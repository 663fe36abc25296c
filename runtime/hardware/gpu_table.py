"""Data of NVIDIA's GPUs from their data sheets: memory, bandwidth, generation, peak rates.

Sources: the product pages and data sheets of each card, and the architecture white papers (GA102,
Ada, RTX Blackwell, A100, H100). Rates are dense, without the doubling for sparse weights, and with
accumulation in 32 bits, because that is how language models are computed; on GeForce cards this is
half of the figure in large print. Cards whose figures are uncertain are left out.
"""

import difflib

from msgspec import Struct

from runtime.errors import SetupError

_GIB = 1 << 30
# Cards of the same name with different memory sizes differ by more than this share.
_SAME_MEMORY = 0.15


class GpuSpec(Struct, frozen=True, kw_only=True):
    """One kind of GPU.

    `nvml_name` is its name in the driver. `memory_bytes` is the whole memory as the driver reports
    it; that is less than the label on cards that keep a part for error correction. `bandwidth` is
    in bytes a second. `fp16_flops` and `fp8_flops` are the tensor cores' floating-point operations
    a second; None if unknown or not supported.
    """

    name: str
    nvml_name: str
    memory_bytes: int
    bandwidth: float
    compute_capability: tuple[int, int]
    fp16_flops: float | None = None
    fp8_flops: float | None = None


def _gpu(
    name: str,
    nvml_name: str,
    gib: float,
    gb_per_second: float,
    compute_capability: tuple[int, int],
    fp16_tflops: float,
    fp8_tflops: float | None = None,
) -> GpuSpec:
    return GpuSpec(
        name=name,
        nvml_name=f"NVIDIA {nvml_name}",
        memory_bytes=round(gib * _GIB),
        bandwidth=gb_per_second * 1e9,
        compute_capability=compute_capability,
        fp16_flops=fp16_tflops * 1e12,
        fp8_flops=None if fp8_tflops is None else fp8_tflops * 1e12,
    )


_GA10X, _ADA, _HOPPER, _RTX_BLACKWELL = (8, 6), (8, 9), (9, 0), (12, 0)

GPUS: tuple[GpuSpec, ...] = (
    _gpu("rtx-3060", "GeForce RTX 3060", 12, 360, _GA10X, 25.5),
    _gpu("rtx-3060-ti", "GeForce RTX 3060 Ti", 8, 448, _GA10X, 32.4),
    _gpu("rtx-3070", "GeForce RTX 3070", 8, 448, _GA10X, 40.6),
    _gpu("rtx-3070-ti", "GeForce RTX 3070 Ti", 8, 608.3, _GA10X, 43.5),
    _gpu("rtx-3080", "GeForce RTX 3080", 10, 760.3, _GA10X, 59.5),
    _gpu("rtx-3080-12gb", "GeForce RTX 3080", 12, 912.4, _GA10X, 61.3),
    _gpu("rtx-3080-ti", "GeForce RTX 3080 Ti", 12, 912.4, _GA10X, 68.2),
    _gpu("rtx-3090", "GeForce RTX 3090", 24, 936.2, _GA10X, 71.0),
    _gpu("rtx-3090-ti", "GeForce RTX 3090 Ti", 24, 1008, _GA10X, 80.0),
    _gpu("rtx-4060", "GeForce RTX 4060", 8, 272, _ADA, 30.2, 60.5),
    _gpu("rtx-4060-ti", "GeForce RTX 4060 Ti", 8, 288, _ADA, 44.1, 88.2),
    _gpu("rtx-4060-ti-16gb", "GeForce RTX 4060 Ti", 16, 288, _ADA, 44.1, 88.2),
    _gpu("rtx-4070", "GeForce RTX 4070", 12, 504.2, _ADA, 58.3, 116.6),
    _gpu("rtx-4070-super", "GeForce RTX 4070 SUPER", 12, 504.2, _ADA, 71.0, 141.9),
    _gpu("rtx-4070-ti", "GeForce RTX 4070 Ti", 12, 504.2, _ADA, 80.2, 160.4),
    _gpu("rtx-4070-ti-super", "GeForce RTX 4070 Ti SUPER", 16, 672.3, _ADA, 88.2, 176.4),
    _gpu("rtx-4080", "GeForce RTX 4080", 16, 716.8, _ADA, 97.5, 194.9),
    _gpu("rtx-4080-super", "GeForce RTX 4080 SUPER", 16, 736.3, _ADA, 104.4, 208.9),
    _gpu("rtx-4090", "GeForce RTX 4090", 24, 1008, _ADA, 165.2, 330.3),
    _gpu("rtx-5060", "GeForce RTX 5060", 8, 448, _RTX_BLACKWELL, 38.4, 76.7),
    _gpu("rtx-5060-ti", "GeForce RTX 5060 Ti", 8, 448, _RTX_BLACKWELL, 47.4, 94.8),
    _gpu("rtx-5060-ti-16gb", "GeForce RTX 5060 Ti", 16, 448, _RTX_BLACKWELL, 47.4, 94.8),
    _gpu("rtx-5070", "GeForce RTX 5070", 12, 672, _RTX_BLACKWELL, 61.7, 123.5),
    _gpu("rtx-5070-ti", "GeForce RTX 5070 Ti", 16, 896, _RTX_BLACKWELL, 87.9, 175.8),
    _gpu("rtx-5080", "GeForce RTX 5080", 16, 960, _RTX_BLACKWELL, 112.6, 225.1),
    _gpu("rtx-5090", "GeForce RTX 5090", 32, 1792, _RTX_BLACKWELL, 209.5, 419),
    _gpu("rtx-a6000", "RTX A6000", 48, 768, _GA10X, 154.8),
    _gpu("rtx-6000-ada", "RTX 6000 Ada Generation", 48, 960, _ADA, 364.2, 728.5),
    _gpu(
        "rtx-pro-6000",
        "RTX PRO 6000 Blackwell Workstation Edition",
        95.6,
        1792,
        _RTX_BLACKWELL,
        503.8,
        1007.6,
    ),
    _gpu("l4", "L4", 22.5, 300, _ADA, 121, 242),
    _gpu("l40", "L40", 45, 864, _ADA, 181, 362),
    _gpu("l40s", "L40S", 45, 864, _ADA, 362, 733),
    _gpu("a10", "A10", 22.5, 600, _GA10X, 125),
    _gpu("a30", "A30", 24, 933, (8, 0), 165),
    _gpu("a100-40gb", "A100-SXM4-40GB", 40, 1555, (8, 0), 312),
    _gpu("a100-pcie-40gb", "A100-PCIE-40GB", 40, 1555, (8, 0), 312),
    _gpu("a100-80gb", "A100-SXM4-80GB", 80, 2039, (8, 0), 312),
    _gpu("a100-pcie-80gb", "A100 80GB PCIe", 80, 1935, (8, 0), 312),
    _gpu("h100", "H100 80GB HBM3", 79.6, 3350, _HOPPER, 989, 1979),
    _gpu("h100-pcie", "H100 PCIe", 79.6, 2000, _HOPPER, 756, 1513),
    _gpu("h200", "H200", 140.4, 4800, _HOPPER, 989, 1979),
    _gpu("gh200", "GH200 480GB", 95.6, 4000, _HOPPER, 989, 1979),
    _gpu("b200", "B200", 179, 8000, (10, 0), 2250, 4500),
)


def find_gpu(name: str) -> GpuSpec:
    """The GPU of that name, however it is written: `rtx-4070`, `RTX 4070`, the driver's name.

    Raises SetupError, with the closest name, for one that is not in the table.
    """
    wanted = _plain(name)
    for gpu in GPUS:
        if wanted in (gpu.name, _plain(gpu.nvml_name)):
            return gpu
    raise _unknown(name, wanted)


def match_gpu(nvml_name: str, memory_bytes: int) -> GpuSpec | None:
    """The GPU with this name and about this much memory; None if the table has none.

    Names are compared whole: the name of a laptop's GPU is the desktop card's with a suffix.
    """
    named = [gpu for gpu in GPUS if gpu.nvml_name == nvml_name]
    near = min(named, key=lambda gpu: abs(gpu.memory_bytes - memory_bytes), default=None)
    if near is None or abs(near.memory_bytes / memory_bytes - 1) > _SAME_MEMORY:
        return None
    return near


def _plain(name: str) -> str:
    words = name.lower().replace("_", "-").replace(" ", "-").removeprefix("nvidia-")
    return words.removeprefix("geforce-")


def _unknown(name: str, wanted: str) -> SetupError:
    known = [gpu.name for gpu in GPUS]
    close = [other for other in known if wanted and other.endswith(f"-{wanted}")]
    for spelling in (wanted, f"rtx-{wanted}") if wanted else ():
        close += difflib.get_close_matches(spelling, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return SetupError(
        f"--gpu: there is no GPU named {name!r} in the table.{hint} Known names: "
        f"{', '.join(known)}; or auto for the one in this machine"
    )
