"""The log: structlog for all modules; stdlib loggers (uvicorn, litestar) use the same pipeline.

Lines go to stderr: readable text on a terminal, JSON everywhere else. User text and API keys must
not reach the log: fields with such names are blanked, and tracebacks never show the values of
variables.
"""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.settings.schema import LogSettings
from runtime.config.worker import LogForm

_PRIVATE_FIELDS = frozenset({"api_key", "authorization", "content", "messages", "prompt", "text"})
_TALKATIVE = ("uvicorn", "litestar", "asyncio", "httpx")


def configure_logging(settings: LogSettings) -> None:
    """Sets up structlog and the root logger. Calling it again replaces the former set-up."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_handler(as_json=_wants_json(settings))]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(level if level <= logging.DEBUG else logging.WARNING)


def engine_log_form(settings: LogSettings) -> LogForm:
    """The form of the engine's lines, which stand between those of the gateway."""
    if _wants_json(settings):
        return "json"
    return "colored" if sys.stderr.isatty() else "text"


def _wants_json(settings: LogSettings) -> bool:
    if settings.format == "auto":
        return not sys.stderr.isatty()
    return settings.format == "json"


def _handler(*, as_json: bool) -> logging.Handler:
    render: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        render += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # the default traceback of structlog's console shows local variables, prompts among them
        plain = structlog.dev.plain_traceback
        colors = sys.stderr.isatty()
        render += [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared_processors(), processors=render
        )
    )
    return handler


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _blank_private_fields,
    ]


def _blank_private_fields(_: WrappedLogger, __: str, event: EventDict) -> dict[str, Any]:
    return {name: "***" if name in _PRIVATE_FIELDS else value for name, value in event.items()}
