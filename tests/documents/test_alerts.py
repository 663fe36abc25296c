"""Alerts speak of metrics that exist, and the operator's page of every alert."""

import re
import shutil
import subprocess

import pytest
import yaml

from gateway.app import ROUTES
from gateway.http.route_facts import operations_of
from gateway.observability.metrics.server import FAILURES, Metrics
from tests.kit.root import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_that_there_are(rule):
    """docs/metrics.md has them all: another test compares it with the code."""
    known = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    asked = re.findall(r"\b(?:lockgate|gen_ai)_\w+", rule["expr"])

    assert asked or rule["expr"].startswith("up{")
    for name in asked:
        assert name in known or re.sub(r"_(bucket|sum|count)$", "", name) in known


def test_alerts_know_every_code_of_a_server_error():
    """By their codes, because an error in the middle of a stream has the status 200."""
    [errors] = [rule["expr"] for rule in RULES if rule["alert"] == "LockgateErrors"]
    [codes] = re.findall(r'error=~"([^"]*)"', errors)

    assert sorted(codes.split("|")) == sorted({code for _, code in FAILURES})


def test_an_error_that_alerts_ask_for_begins_at_zero():
    """A series that begins at 1 has not grown: the first error would be missed."""
    metrics = Metrics(operations=operations_of(ROUTES))
    metrics.of("m")
    shown = {labels.error for labels, count in metrics.http_requests.items() if count == 0}
    shown |= {reason for reason, count in metrics.rejections.items() if count == 0}
    asked = {
        code
        for rule in RULES
        for codes in re.findall(r'(?:error|reason)=~"([^"]*)"', rule["expr"])
        for code in codes.split("|")
    }

    assert len(asked) >= 8
    assert asked <= shown


def test_every_alert_has_a_section_and_a_test():
    page = (ROOT / "docs/operations.md").read_text()
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    names = [rule["alert"] for rule in RULES]

    assert re.findall(r"^### (\w+)$", page, re.MULTILINE) == names
    tested = {
        case["alertname"]
        for test in tests
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert tested == set(names)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_agrees():
    for arguments in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        subprocess.run(["promtool", *arguments], cwd=FOLDER, check=True, timeout=60)
