"""The processor's name and features."""

import hashlib
import platform
import subprocess
import sys
from pathlib import Path


def processor_name() -> str:
    """The name that its maker gave it, such as "AMD EPYC 9B14"; where that is not to be had, that
    of its architecture."""
    if sys.platform == "linux" and (name := _cpuinfo("model name")):
        return name
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        answer = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        if answer.stdout.strip():
            return answer.stdout.strip()
    return platform.processor() or platform.machine()


def machine_identity() -> str:
    """What tells this machine from another one for programs that choose kernels by the processor:
    its host's name, and the processor with its features."""
    features = hashlib.sha256(_cpuinfo("flags").encode()).hexdigest()[:12]
    return f"{platform.node()}, {processor_name()}, {features}"


def _cpuinfo(field: str) -> str:
    """A field of the first processor in Linux's list; elsewhere empty."""
    if sys.platform != "linux":
        return ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(field):
            return line.partition(":")[2].strip()
    return ""
