"""Certificates that a test makes for itself."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest


class Certificate(NamedTuple):
    """PEM files."""

    certificate: Path
    key: Path


def make_certificate(folder: Path, name: str = "localhost", *extensions: str) -> Certificate:
    """One that its own key has signed. Skips the test where openssl is missing."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    made = Certificate(folder / f"{name}-cert.pem", folder / f"{name}-key.pem")
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    words = [*request.split(), "-subj", f"/CN={name}", "-out", made.certificate]
    words += [word for extension in extensions for word in ("-addext", extension)]
    subprocess.run([*words, "-keyout", made.key], check=True, capture_output=True)
    return made
