"""The server that the clients talk to."""

from compat_tests.conftest import server

__all__ = ["server"]
