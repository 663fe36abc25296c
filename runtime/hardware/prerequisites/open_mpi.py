"""Open MPI, which starts the package's worker even for one GPU, and the network interfaces that it
may choose."""

import re
from collections.abc import Mapping
from pathlib import Path

from runtime.config.tensorrt_llm import SINGLE_PROCESS
from runtime.hardware.prerequisites.machine import (
    Check,
    Machine,
    numbers,
    ok,
    problem,
    warning,
)

_INSTALL = "sudo apt-get install libopenmpi-dev"
_LIBRARIES = (
    "usr/lib/*/libmpi.so*",
    "usr/lib*/libmpi.so*",
    "usr/lib64/openmpi/lib/libmpi.so*",
    "usr/local/lib/libmpi.so*",
    "usr/local/mpi/lib/libmpi.so*",
    "opt/hpcx/ompi/lib/libmpi.so*",
)
_VERSION = re.compile(r"Open MPI\)?:? v?(\d[\d.]*)")
_RISKY = re.compile(
    r"docker|br-|veth|virbr|cni|flannel|podman|lxc|vmnet|vboxnet|tun|tap|wg|ppp|utun|tailscale|zt"
    r"|nordlynx|proton",
)
"""Interfaces of containers, virtual machines and VPNs: packets that this machine sends to itself
over them may be lost."""

_KINDS = ("btl", "oob")
_LOOPBACK_UP = 1
"""IFF_UP in Linux's if.h."""


def check_open_mpi(machine: Machine) -> Check:
    """Open MPI's version."""
    name = "Open MPI"
    for command in ("ompi_info", "mpirun"):
        path = machine.find(command)
        told = "" if path is None else machine.output(path, "--version")
        if found := _VERSION.search(told):
            return _judged(machine, name, found[1], path)
        if told:
            first = told.strip().splitlines()[0]
            return warning(name, f"{path} is of another MPI: {first}", _INSTALL)
    library = _library(machine)
    if library is not None:
        return ok(name, f"{library}, version unknown (there is no ompi_info)")
    return warning(name, "none was found, and the package does not load without it", _INSTALL)


def check_interfaces(machine: Machine, environment: Mapping[str, str]) -> Check:
    """The interfaces that Open MPI may use. `environment` is that of the engine's process."""
    name = "MPI interfaces"
    if not _is_up(machine, "lo"):
        return problem(name, "the loopback interface lo is down", "sudo ip link set lo up")
    others = [each for each in _interfaces(machine) if each != "lo"]
    settings = [
        f"OMPI_MCA_{kind}_tcp_if_{way}" for kind in _KINDS for way in ("include", "exclude")
    ]
    wrong = [
        f"{key}={environment[key]}"
        for key in settings
        if key in environment and not (key.endswith("include") and _is_loopback(environment[key]))
    ]
    if wrong:
        risky = [each for each in others if _RISKY.match(each)]
        doubtful = f"; the start may hang on {', '.join(risky)}" if risky else ""
        return warning(
            name,
            f"{', '.join(wrong)} is set{doubtful}",
            "unset it: Lockgate binds Open MPI to lo, since all processes are on this machine",
        )
    return ok(name, f"Open MPI is bound to lo (there are also {', '.join(others) or 'no others'})")


def _judged(machine: Machine, name: str, version: str, path: Path | None) -> Check:
    found = f"{version}, {path}"
    single = machine.environment.get(SINGLE_PROCESS) == "1"
    if numbers(version)[:1] < (5,) or single:
        return ok(name, found)
    return warning(
        name,
        f"{found}: with Open MPI 5 the start may hang (MPI_ERR_UNKNOWN)",
        f"if it does, set {SINGLE_PROCESS}=1, which does without MPI",
    )


def _library(machine: Machine) -> Path | None:
    for folder in machine.environment.get("LD_LIBRARY_PATH", "").split(":"):
        if folder and (found := next(iter(sorted(Path(folder).glob("libmpi.so*"))), None)):
            return found
    candidates = (path for pattern in _LIBRARIES for path in sorted(machine.root.glob(pattern)))
    return next(candidates, None)


def _interfaces(machine: Machine) -> list[str]:
    folder = machine.root / "sys/class/net"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _is_up(machine: Machine, interface: str) -> bool:
    flags = machine.text(f"sys/class/net/{interface}/flags").strip()
    return bool(flags) and bool(int(flags, 16) & _LOOPBACK_UP)


def _is_loopback(value: str) -> bool:
    return all(each == "lo" or each.startswith("127.") for each in value.split(","))
