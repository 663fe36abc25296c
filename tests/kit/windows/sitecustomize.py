"""Python imports this at its start when the folder is in PYTHONPATH: every process that the tests
start then runs Lockgate's code in the ways of Windows (`scripts/test --windows-ways`)."""

import windows_ways

windows_ways.install()
