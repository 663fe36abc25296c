"""What `pip download` does with a folder of wheels, in a twentieth of its time."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

_PROGRAM = str(Path(__file__).with_name("download.py"))


def use_quick_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that would run pip's `download` run `download.py` with the same arguments."""
    monkeypatch.setattr(subprocess, "Popen", _QuickPopen)


class _QuickPopen(subprocess.Popen[Any]):
    def __init__(self, args: Any, *others: Any, **named: Any) -> None:
        if isinstance(args, list) and args[1:4] == ["-m", "pip", "download"]:
            args = [args[0], "-I", "-S", _PROGRAM, *args[4:]]
        super().__init__(args, *others, **named)
