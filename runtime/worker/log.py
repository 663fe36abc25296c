"""The engine process's own log lines: on stderr beside the gateway's, in the same two forms."""

import contextlib
import logging
import sys
from typing import Any

import structlog
from structlog.typing import Processor

from runtime.config.worker import LogForm


def configure_log(form: LogForm) -> None:
    """Log in this form, from level info up. The engine process never logs requests, so there is
    nothing private to redact."""
    render: list[Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    if form != "json":
        plain = structlog.dev.plain_traceback
        colors = form == "colored"
        render = [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_Logger,
    )


class _Logger(structlog.PrintLogger):
    """Drops lines that cannot be written: a full disk or a closed pipe must not end the engine."""

    def __init__(self, *_: Any) -> None:
        super().__init__(sys.stderr)

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg
