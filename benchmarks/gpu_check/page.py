"""The results as one page for people and one file for programs."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_check.steps import Result


def write(folder: Path, head: dict[str, Any], results: Sequence[Result]) -> tuple[Path, Path]:
    """Writes gpu-check.md and gpu-check.json; returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    page, data = folder / "gpu-check.md", folder / "gpu-check.json"
    document = {**head, "steps": [dataclasses.asdict(result) for result in results]}
    data.write_text(json.dumps(document, indent=1), "utf-8")
    page.write_text(_page(head, results), "utf-8")
    return page, data


def _page(head: dict[str, Any], results: Sequence[Result]) -> str:
    lines = ["# GPU check", ""]
    lines += [f"- {name}: {value}" for name, value in head.items()]
    lines += ["", "| step | outcome | seconds | |", "|---|---|---|---|"]
    lines += [
        f"| {each.name} | {each.outcome} | {each.seconds:.1f} | {_cell(each.reason)} |"
        for each in results
    ]
    for result in results:
        if result.facts:
            facts = json.dumps(result.facts, indent=1, ensure_ascii=False)
            lines += ["", f"## {result.name}", "", "```json", facts, "```"]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
