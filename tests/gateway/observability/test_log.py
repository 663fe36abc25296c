"""The log: one pipe, two forms, and nothing private in it."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gateway.observability.log import configure_logging
from gateway.settings.schema import LogFormat, LogSettings


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    talkative = {
        name: logging.getLogger(name).level for name in ("uvicorn", "litestar", "asyncio", "httpx")
    }
    yield
    structlog.reset_defaults()
    root.handlers = handlers
    root.setLevel(level)
    for name, former in talkative.items():
        logging.getLogger(name).setLevel(former)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_both_kinds_of_loggers_write_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="json"))
    structlog.get_logger("ours").info("ready", port=8000)
    logging.getLogger("theirs").warning("old %s", "style")

    ours, theirs = [json.loads(line) for line in lines(capsys)]

    assert (ours["event"], ours["port"], ours["level"]) == ("ready", 8000, "info")
    assert (theirs["event"], theirs["logger"]) == ("old style", "theirs")


def test_auto_is_json_when_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings())
    structlog.get_logger().info("ready")
    assert json.loads(lines(capsys)[0])["event"] == "ready"


def test_console_form_is_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(format="console"))
    structlog.get_logger().info("ready", port=8000)
    (line,) = lines(capsys)
    assert "ready" in line
    assert "port=8000" in line
    assert not line.startswith("{")


def test_level_holds_and_servers_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(level="info", format="json"))
    structlog.get_logger().debug("hidden")
    logging.getLogger("uvicorn.error").info("hidden")
    logging.getLogger("httpx").info("hidden")
    logging.getLogger("uvicorn.error").error("shown")
    assert [json.loads(line)["event"] for line in lines(capsys)] == ["shown"]


def test_debug_shows_everything(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(level="debug", format="json"))
    structlog.get_logger().debug("shown")
    logging.getLogger("uvicorn.error").info("shown too")
    assert len(lines(capsys)) == 2


@pytest.mark.parametrize("form", ["json", "console"])
def test_nothing_private_is_written(capsys: pytest.CaptureFixture[str], form: LogFormat) -> None:
    """Neither in fields nor in the variables of a traceback."""
    configure_logging(LogSettings(format=form))
    log = structlog.get_logger()
    log.info("request", prompt="a secret", authorization="a secret", num_tokens=3)
    hidden = "a secret"
    try:
        raise ValueError(f"{len(hidden)} characters")
    except ValueError:
        log.exception("failed")

    text = "\n".join(lines(capsys))

    assert "a secret" not in text
    assert "8 characters" in text
    assert "num_tokens" in text
