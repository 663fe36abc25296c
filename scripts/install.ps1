# Make .venv and install Lockgate into it, editable, with the embedded engine and all test tools: scripts/install for PowerShell.
# PYTHON names the interpreter (3.11 or newer; otherwise the launcher py chooses), VENV the folder, CONSTRAINTS a pip constraints file.
$ErrorActionPreference = "Stop"
Set-Location (Join-Path $PSScriptRoot "..")
$python = if ($env:PYTHON) { $env:PYTHON } else { "py" }
$venv = if ($env:VENV) { $env:VENV } else { ".venv" }
$venvPython = Join-Path $venv "Scripts\python.exe"

& $python -c "import sys; sys.exit(sys.version_info < (3, 11))"
if ($LASTEXITCODE -ne 0) { throw "Lockgate needs Python 3.11 or newer; set PYTHON to one." }
if (-not (Test-Path $venvPython)) { & $python -m venv $venv }
if (-not $env:CMAKE_ARGS) { $env:CMAKE_ARGS = "-DLLAVA_BUILD=OFF" }
$constraints = if ($env:CONSTRAINTS) { @("--constraint", $env:CONSTRAINTS) } else { @() }
& $venvPython -m pip install --quiet --disable-pip-version-check @constraints --editable ".[cpu,test,dev]"
exit $LASTEXITCODE
