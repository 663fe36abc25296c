"""What a reader needs to judge the numbers of a run."""

import os
import platform
from typing import Any

import psutil


def machine() -> dict[str, Any]:
    """The machine, and how busy it is."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "load_average": psutil.getloadavg()[0],
    }
