"""Windows as far as Linux can imitate it, for Lockgate's own code: libraries and tests go on as on
Linux, by other clocks.

`imports` gives that code other modules `sys`, `os`, `signal` and so on (`modules`), `files`
refuses what the file system of Windows refuses, and `clocks` makes everyone's clocks go in steps.
docs/windows.md says what is imitated and what is not.
"""

import sys
import warnings

from windows_ways.clocks import make_coarse
from windows_ways.files import refuse
from windows_ways.imports import Finder

ABSENT = ("httptools", "readline", "uvloop")
"""Modules that nobody finds, libraries neither."""

OURS = r"(gateway|runtime|convert)\b"


def install() -> None:
    """From now on, in this process."""
    for name in ABSENT:
        sys.modules[name] = None  # type: ignore[assignment]
    make_coarse()
    sys.meta_path.insert(0, Finder())
    sys.addaudithook(refuse)
    # text is cp1252 on Windows wherever nobody says what it is (PYTHONWARNDEFAULTENCODING)
    warnings.filterwarnings("ignore", category=EncodingWarning)
    warnings.filterwarnings("error", category=EncodingWarning, module=OURS)
