"""`lockgate doctor`: one screen about this machine, and which engines can run on it."""

import argparse
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct
from rich.markup import escape
from rich.table import Table

from gateway.commands.models_on_disk import open_store
from gateway.commands.options import add_settings_options, settings_of
from gateway.settings.schema import Settings
from runtime.hardware.allowance import (
    MACHINE,
    CoreAllowance,
    MemoryAllowance,
    cores_allowed,
    memory_allowed,
)
from runtime.hardware.engine_checks import EngineReport, examine_engines
from runtime.hardware.nvml import GpuReader
from runtime.hardware.prerequisites.machine import Status
from runtime.hardware.processor import processor_name
from runtime.hardware.readings import GpuReading, GpuSnapshot
from runtime.models.store import ModelStore
from runtime.supervisor.lessons import Lesson, Lessons
from runtime.terminal.console import Console
from runtime.version import __version__

_MARKS: Mapping[Status, str] = {
    "ok": "[green]ok  [/green]",
    "warning": "[yellow]look[/yellow]",
    "problem": "[red]no  [/red]",
}


class Report(Struct, frozen=True, kw_only=True):
    """All results of `doctor`. Sizes are in bytes. `num_threads` is what "auto" makes of the cores.
    `models` maps each name of the catalogue to whether the model is present. `learned` is what the
    deaths of engines have taught of this machine."""

    lockgate: str
    python: str
    python_path: str
    system: str
    cpu: str
    cores: CoreAllowance
    num_threads: int
    memory: MemoryAllowance
    model_folder: str
    disk_free: int
    models: dict[str, bool]
    driver: GpuSnapshot
    engines: tuple[EngineReport, ...]
    learned: tuple[Lesson, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate doctor`."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument(
        "--forget", action="store_true", help="forget what dead engines have taught, and try again"
    )
    add_settings_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the report."""
    if arguments.forget:
        print(f"Forgotten: {Lessons().forget()}", file=sys.stderr)
    report = examine(settings_of(arguments))
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        _print_report(report)
    return 0


def examine(settings: Settings) -> Report:
    """Examines this machine. Takes seconds the first time: libraries compute a small model."""
    store = open_store(settings)
    cores = cores_allowed()
    driver = _examine_driver()
    return Report(
        lockgate=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        python_path=sys.executable,
        system=platform.platform(),
        cpu=processor_name(),
        cores=cores,
        num_threads=cores.num_threads,
        memory=memory_allowed(),
        model_folder=str(store.folder),
        disk_free=_disk_free(store.folder),
        models=_models(store),
        driver=driver,
        engines=examine_engines(driver, settings.engine, settings.model.name_or_path),
        learned=Lessons().all(),
    )


def _models(store: ModelStore) -> dict[str, bool]:
    return {model.name: model.is_present for model in store.models()}


def _disk_free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _examine_driver() -> GpuSnapshot:
    reader = GpuReader()
    try:
        return reader.read()
    finally:
        reader.close()


def _print_report(report: Report) -> None:
    console = Console(highlight=False)
    facts = Table.grid("", "", padding=(0, 2))
    for name, value in _facts(report):
        facts.add_row(f"[bold]{name}[/bold]", value)
    console.print(facts)
    console.print()
    engines = Table.grid("", "", padding=(0, 2))
    for engine in report.engines:
        engines.add_row(f"[bold]{engine.name}[/bold]", _verdict(engine))
    console.print(engines)
    for engine in report.engines:
        _print_checks(console, engine)
    for lesson in report.learned:
        console.print(f"\n[bold]Learned[/bold] {_lesson_words(lesson)}", soft_wrap=True)


def _facts(report: Report) -> list[tuple[str, str]]:
    models = [f"{name} ({'present' if here else 'absent'})" for name, here in report.models.items()]
    return [
        ("Lockgate", report.lockgate),
        ("Python", f"{report.python}, {report.python_path}"),
        ("System", report.system),
        ("CPU", f"{report.cpu}, {_core_words(report)}"),
        ("Memory", _memory_words(report.memory)),
        ("Models", f"{report.model_folder}, {_gigabytes(report.disk_free)} free"),
        ("", ", ".join(models)),
        *_gpu_facts(report.driver),
    ]


def _core_words(report: Report) -> str:
    cores = report.cores
    words = [f"{cores.physical} cores", f"{cores.usable} usable"]
    if cores.quota is not None:
        words.append(f"time of {cores.quota:g} ({cores.quota_source})")
    return ", ".join([*words, f"threads by default: {report.num_threads}"])


def _memory_words(memory: MemoryAllowance) -> str:
    total, available = _gigabytes(memory.total), _gigabytes(memory.available)
    if memory.total_source != MACHINE:
        total += f" ({memory.total_source})"
    if memory.available_source != memory.total_source:
        available += f" ({memory.available_source})"
    return f"{total}, {available} available"


def _gpu_facts(driver: GpuSnapshot) -> list[tuple[str, str]]:
    if driver.problem:
        return [("GPU", driver.problem)]
    facts = [("Driver", f"NVIDIA {driver.driver_version}, CUDA {driver.cuda_version}")]
    facts += [("GPU", _gpu_fact(gpu)) for gpu in driver.gpus]
    return facts if driver.gpus else [*facts, ("GPU", "none")]


def _gpu_fact(gpu: GpuReading) -> str:
    if gpu.problem:
        return f"{gpu.name or gpu.index}: {gpu.problem}"
    words = [gpu.name, f"compute {gpu.compute_capability or 'unknown'}"]
    if gpu.memory_total is not None and gpu.memory_free is not None:
        words.insert(1, f"{_gigabytes(gpu.memory_total)}, {_gigabytes(gpu.memory_free)} free")
    else:
        words.insert(1, "memory shared with the CPU")
    if gpu.temperature is not None:
        words.append(f"{gpu.temperature} °C")
    if gpu.power is not None and gpu.power_limit is not None:
        words.append(f"{gpu.power:.0f} of {gpu.power_limit:.0f} W")
    if gpu.mig_enabled:
        words.append("divided (MIG)")
    return ", ".join(words)


def _verdict(engine: EngineReport) -> str:
    if engine.can_run and any(check.advice for check in engine.checks):
        return f"[yellow]may run[/yellow], version {engine.version}; look below"
    if engine.can_run:
        return f"[green]can run[/green], version {engine.version}"
    return f"[red]cannot run[/red]: {'; '.join(engine.problems)}\n→ {engine.advice}"


def _print_checks(console: Console, engine: EngineReport) -> None:
    """Prints a line for each check, and what to do about it."""
    if not engine.checks:
        return
    console.print(f"\nWhat {engine.name} needs")
    for check in engine.checks:
        advice = f" → {check.advice}" if check.advice else ""
        words = escape(f"{check.name:<14} {check.found}{advice}")
        console.print(f"{_MARKS[check.status]} {words}", soft_wrap=True)


def _lesson_words(lesson: Lesson) -> str:
    where = lesson.situation
    return (
        f"on {lesson.date}: {where.library} loads {where.model} with {lesson.setting}."
        f" Without it: {lesson.reason} To try again: lockgate doctor --forget"
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
