# The fast tests, one process for each core, four at most: scripts/test for PowerShell. Arguments go to pytest.
$ErrorActionPreference = "Stop"
Set-Location (Join-Path $PSScriptRoot "..")
$venv = if ($env:VENV) { $env:VENV } else { ".venv" }
& (Join-Path $venv "Scripts\python.exe") -m pytest --numprocesses=logical --maxprocesses=4 -m "not slow" @args
exit $LASTEXITCODE
