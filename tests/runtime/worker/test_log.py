"""What the engine process logs reads like the gateway's lines."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from runtime.worker.log import configure_log
log = structlog.get_logger("runtime.engines")
configure_log("json")
log.debug("too_small")
log.info("engine_plan", weights_gb=6.1)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("broken")
"""


def test_lines_are_json_where_nobody_looks_on():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )

    plan, broken = (json.loads(line) for line in done.stderr.splitlines())
    assert done.stdout == ""
    assert (plan["event"], plan["level"], plan["weights_gb"]) == ("engine_plan", "info", 6.1)
    assert (broken["event"], broken["level"]) == ("broken", "error")
    assert "ZeroDivisionError" in broken["exception"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_does_not_end_an_engine():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM + 'print("goes on")'], stdout=-1, stderr=full
        )
    assert done.stdout == b"goes on\n"
