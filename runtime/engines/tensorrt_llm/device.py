"""The name of the GPU, read without a CUDA context of our own."""

import pynvml


def device_name() -> str:
    """The first GPU's name as the driver gives it, "unknown" where it cannot be asked."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return "unknown"
    try:
        return str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)))
    except pynvml.NVMLError:
        return "unknown"
    finally:
        pynvml.nvmlShutdown()
