"""Whose ways Lockgate's code follows in this run."""

import os
import sys

IS_WINDOWS = os.name == "nt" or "windows_ways" in sys.modules
"""Whether those of Windows: there, or by `scripts/test --windows-ways`."""
