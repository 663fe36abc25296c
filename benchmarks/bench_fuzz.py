"""Damaged GGUF files through the converter: nothing but errors of this project may come of them.

Each input is read, inspected and planned, its tokenizer is rebuilt and its weights are decoded; one
in twenty is converted. One process, an alarm for each input, a limit on the process's memory.
Exit code 1 when something else than an error of this project came up.

`scripts/bench fuzz [--inputs N] [--first N] [--seed N] [--keep FOLDER]`. Needs POSIX.
"""

import argparse
import resource
import sys
import tempfile
import warnings
from pathlib import Path

import psutil
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.fuzz_gguf import Report, fuzz, make_seeds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first one")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random numbers")
    parser.add_argument("--seconds-each", type=float, default=5.0, metavar="S")
    parser.add_argument("--memory", type=int, default=1024, metavar="MB", help="beyond the start")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where findings are left")
    arguments = parser.parse_args()
    warnings.simplefilter("error")  # users would see them
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = make_seeds(folder)
        _limit_memory(arguments.memory * 1_000_000)
        numbers = range(arguments.first, arguments.first + arguments.inputs)
        report = fuzz(
            seeds,
            folder,
            numbers,
            run_seed=arguments.seed,
            seconds_each=arguments.seconds_each,
            keep=arguments.keep,
        )
    _print(report, arguments.seed)
    return int(bool(report.findings))


def _limit_memory(more: int) -> None:
    """A gigantic allocation becomes a MemoryError, which is a finding."""
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _print(report: Report, seed: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{report.num_inputs:,} inputs of seed {seed} in {report.seconds:,.0f} s; the slowest, "
        f"number {report.slowest_number}, took {report.slowest:.2f} s; peak memory "
        f"{report.peak_bytes / 1e6:,.0f} MB"
    )
    for outcome, count in sorted(report.outcomes.items()):
        console.print(f"  {outcome} {count:,}")
    for finding in report.findings:
        console.print(
            f"number {finding.number}, {finding.seed_model}, {finding.stage}: {finding.error}",
            markup=False,
        )
    console.print(f"{len(report.findings)} findings")


if __name__ == "__main__":
    sys.exit(main())
