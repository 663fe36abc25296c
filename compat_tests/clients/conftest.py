"""The server that the clients talk to."""

from compat_tests.conftest import pytest_configure, server

__all__ = ["pytest_configure", "server"]
