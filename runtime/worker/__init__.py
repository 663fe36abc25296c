"""The engine process: it takes requests from the border, queues them, runs steps and emits text."""

import sys
from typing import Any, cast


def _import_log_alone() -> None:
    """Imports structlog without rich, with which it would draw tracebacks. The engine process
    writes plain ones, and rich is a quarter of all that it would import."""
    if "rich" in sys.modules:
        return
    modules = cast(dict[str, Any], sys.modules)
    modules["rich"] = None
    try:
        import structlog  # noqa: F401
    finally:
        del modules["rich"]


_import_log_alone()
