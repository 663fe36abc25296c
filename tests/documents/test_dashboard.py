"""The dashboard asks for metrics that exist, in a way that fits them, and the files of `deploy` fit
each other."""

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dashboard_picture import fill_in, has_data, named, photograph, restart_spans, variables_of
from msgspec import Struct

from tests.kit.root import ROOT

DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/lockgate.json").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "compose.yml").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {entry["name"]: entry for entry in DASHBOARD["templating"]["list"]}
COLUMNS = 24
by_title = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


class Metric(Struct, frozen=True):
    kind: str
    labels: frozenset[str]


def documented() -> dict[str, Metric]:
    """docs/metrics.md has all of them: another test compares it with the code."""
    text = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", text, re.MULTILINE)
    alerts = Metric("gauge", frozenset({"alertname", "alertstate", "severity"}))
    return {
        name: Metric(kind, frozenset(re.findall(r"`(\w+)`", labels)) | {"instance"})
        for name, kind, labels in rows
    } | {"ALERTS": alerts}


METRICS = documented()


def family(name: str) -> tuple[Metric, str]:
    """The metric that has this sample, and the sample's suffix where it is a histogram's."""
    match = re.fullmatch(r"(\w+)_(bucket|sum|count)", name)
    if match and METRICS.get(match[1], Metric("", frozenset())).kind == "histogram":
        found = METRICS[match[1]]
        labels = found.labels | {"le"} if match[2] == "bucket" else found.labels
        return Metric("histogram", labels), match[2]
    assert name in METRICS, f"there is no metric {name}"
    return METRICS[name], ""


def samples(expression: str) -> list[tuple[str, str, list[str], str]]:
    """What is around each sample that the expression names: the function that is called with it,
    the name, the labels that are matched, and the range in brackets."""
    pattern = r"(?:(\w+)\()?\b((?:lockgate|gen_ai)_\w+|ALERTS)\{([^}]*)\}(\[[^\]]*\])?"
    return [
        (function, name, re.findall(r"(\w+)\s*[=!]~?", matchers), span)
        for function, name, matchers, span in re.findall(pattern, expression)
    ]


def expressions(panel: dict) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def all_expressions() -> list[str]:
    annotations = [entry["expr"] for entry in DASHBOARD["annotations"]["list"] if "expr" in entry]
    return [*itertools.chain.from_iterable(map(expressions, PANELS)), *annotations]


@pytest.mark.parametrize("expression", sorted(set(all_expressions())))
def test_a_query_fits_the_metrics_that_it_names(expression):
    found = samples(expression)
    named = re.findall(r"\b(?:lockgate|gen_ai)_\w+|\bALERTS\b", expression)
    assert [name for _, name, _, _ in found] == named, "each has matchers, and each is seen"

    for function, name, matched, span in found:
        metric, suffix = family(name)
        assert set(matched) <= metric.labels, name
        if metric.kind == "counter" or suffix:
            assert function in {"rate", "increase", "changes"}, f"{name} only grows"
            assert span, f"{name} over what time?"
        else:
            assert (metric.kind, span) == ("gauge", ""), f"{name} is no counter"
        if "instance" in metric.labels and name != "ALERTS":
            assert "instance" in matched, f"{name} of every server"


@by_title
def test_quantiles_are_those_of_buckets(panel):
    for target in panel["targets"]:
        for call in re.findall(r"histogram_quantile\([^,]+,(.*)", target["expr"]):
            assert re.match(r" sum by \(le\b[^)]*\) \(rate\(\w+_bucket\{", call)
        is_heatmap = panel["type"] == "heatmap"
        assert is_heatmap == (target.get("format") == "heatmap")
        if is_heatmap:
            assert re.match(r"sum by \(le\) \(increase\(\w+_bucket\{", target["expr"])


@by_title
def test_labels_are_those_that_a_result_has(panel):
    """An aggregation keeps the labels that it names, and a legend can show those alone."""
    for target in panel["targets"]:
        expression = target["expr"]
        of_metrics = frozenset.intersection(
            *(family(name)[0].labels for _, name, _, _ in samples(expression))
        )
        kept = {
            label.strip()
            for labels in re.findall(r"\bby \(([^)]*)\)", expression)
            for label in labels.split(",")
        }
        assert kept <= of_metrics, expression
        is_aggregated = re.search(r"\b(sum|max|min|histogram_quantile)\b", expression)
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert shown <= (kept if is_aggregated else of_metrics), expression


def test_variables_are_all_declared():
    text = json.dumps(DASHBOARD)
    used = set(re.findall(r"\$\{?(?!__)(\w+)", text))

    assert used == set(VARIABLES)
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert {source["uid"] for source in datasources(DASHBOARD)} == {"${datasource}"}
    for name in ("instance", "model"):
        metric, label = re.fullmatch(
            r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", VARIABLES[name]["definition"]
        ).groups()
        assert label in family(metric)[0].labels


def datasources(value):
    """Every Prometheus datasource that is named anywhere in the dashboard."""
    if isinstance(value, dict):
        if value.get("type") == "prometheus":
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from datasources(each)


def test_targets_of_the_first_token_are_bounds_of_its_histogram():
    """A bucket is named by its bound as it is written; another spelling finds nothing."""
    from gateway.observability.metrics.model import ModelMetrics

    bounds = {bound for bound, _ in ModelMetrics().time_to_first_token.cumulative()}
    variable = VARIABLES["target"]
    options = [option["value"] for option in variable["options"]]

    assert variable["query"].split(",") == options
    assert set(options) <= bounds
    assert [option["value"] for option in variable["options"] if option["selected"]] == [
        variable["current"]["value"]
    ]


@by_title
def test_a_panel_says_what_it_shows_and_what_to_do(panel):
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"]) > 40
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references) > 0
    page = (ROOT / "docs/operations.md").read_text()
    sections = {
        title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    }
    for anchor in re.findall(r"docs/operations\.md#([\w-]+)", panel["description"]):
        assert anchor in sections


def test_every_alert_is_named_by_a_panel():
    """Whoever looks at the dashboard because of an alert finds where to look."""
    text = " ".join(panel["description"] for panel in PANELS)
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    for rule in itertools.chain.from_iterable(group["rules"] for group in rules):
        assert f"docs/operations.md#{rule['alert'].lower()}" in text


def test_panels_have_a_place_and_a_number_each():
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)

    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert cells
        assert place["x"] + place["w"] <= COLUMNS
        assert not cells & taken, f"{panel['title']} lies on another one"
        taken |= cells
    rows = max(y for _, y in taken) + 1
    assert len(taken) == rows * COLUMNS, "no gaps"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_reads_every_query(tmp_path):
    """As recording rules: promtool parses those without a server."""
    variables = variables_of(DASHBOARD, 0, 3600, "1m")
    rules = [
        {"record": f"query_{number}", "expr": fill_in(expression, variables)}
        for number, expression in enumerate(all_expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    done = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def mounts(service: str) -> dict[str, tuple[str, bool]]:
    """Path in the container -> what is mounted there, and whether it can be written."""
    found = {}
    for entry in COMPOSE["services"][service]["volumes"]:
        source, target, *options = re.split(r":(?!-)", entry)
        found[target] = (source, "ro" not in options)
    return found


def in_container(service: str, path: str) -> Path:
    """The file of this repository that a service sees under a path."""
    for target, (source, _) in mounts(service).items():
        if path == target or path.startswith(f"{target}/"):
            return (DEPLOY / source / path.removeprefix(target).lstrip("/")).resolve()
    raise AssertionError(f"nothing is mounted at {path} of {service}")


def test_what_is_mounted_is_there_and_cannot_be_written():
    for service in COMPOSE["services"]:
        for target, (source, is_writable) in mounts(service).items():
            if source in COMPOSE["volumes"]:
                assert is_writable, f"{service} keeps its data at {target}"
            else:
                assert not is_writable, source
                assert source.startswith("${") or (DEPLOY / source).exists(), source
    used = [
        source
        for service in COMPOSE["services"]
        for source, is_writable in mounts(service).values()
        if is_writable
    ]
    assert sorted(used) == sorted(COMPOSE["volumes"]), "a volume for each"


def test_grafana_finds_the_dashboard_and_prometheus():
    provisioning = "/etc/grafana/provisioning"
    provider = in_container("grafana", f"{provisioning}/dashboards/lockgate.yml")
    source = in_container("grafana", f"{provisioning}/datasources/prometheus.yml")
    [dashboards] = yaml.safe_load(provider.read_text())["providers"]
    [datasource] = yaml.safe_load(source.read_text())["datasources"]
    home = COMPOSE["services"]["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    command = COMPOSE["services"]["prometheus"]["command"]
    [address] = [part.partition("=")[2] for part in command if "listen-address" in part]

    assert json.loads(in_container("grafana", home).read_text()) == DASHBOARD
    assert in_container("grafana", dashboards["options"]["path"]) == (DEPLOY / "grafana/dashboards")
    assert datasource["type"] == "prometheus"
    assert datasource["isDefault"]
    assert datasource["url"] == f"http://{address.replace('127.0.0.1', 'localhost')}"
    assert datasource["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_prometheus_finds_the_alerts_and_the_gateway():
    [path] = [
        part.partition("=")[2]
        for part in COMPOSE["services"]["prometheus"]["command"]
        if "config.file" in part
    ]
    config_file = in_container("prometheus", path)
    config = yaml.safe_load(config_file.read_text())
    [rules] = config["rule_files"]
    [job] = config["scrape_configs"]

    assert in_container("prometheus", f"{Path(path).parent}/{rules}").name == "alerts.yml"
    assert job["static_configs"] == [{"targets": ["localhost:8000"]}]
    assert 'up{job="lockgate"}' in (DEPLOY / "prometheus/alerts.yml").read_text()
    assert job["job_name"] == "lockgate"


def test_services_are_pinned_and_listen_on_loopback_alone():
    services = COMPOSE["services"]
    for name, service in services.items():
        assert service["network_mode"] == "host"
        assert "ports" not in service
        if "build" not in service:
            assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"]), name
        else:
            build = service["build"]
            assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    assert services["lockgate"]["command"] == ["--host", "127.0.0.1"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    assert "--web.listen-address=127.0.0.1:9090" in services["prometheus"]["command"]


@pytest.mark.parametrize("expression", sorted(set(all_expressions())))
def test_a_picture_leaves_no_variable_open(expression):
    assert "$" not in fill_in(expression, variables_of(DASHBOARD, 0, 3600, "1m"))


def test_a_picture_names_series_by_the_labels_that_they_have():
    assert named("{{model_name}}: {{state}}", {"model_name": "a", "state": "ready"}) == "a: ready"
    assert named("p50 {{model_name}}", {}) == "p50 "


class Answer:
    """A Prometheus that says the same to every question."""

    step = 1.0

    def __init__(self, *times: float) -> None:
        self.times = times

    def ask(self, expression: str) -> list[dict]:
        return [{"metric": {}, "values": [[time, "1"] for time in self.times]}] * bool(self.times)


@pytest.mark.parametrize(
    ("times", "spans"),
    [((), []), ((5.0,), [[5.0, 5.0]]), ((5.0, 6.0, 7.0, 9.0, 10.0), [[5.0, 7.0], [9.0, 10.0]])],
)
def test_a_picture_has_one_span_for_points_without_a_gap(times, spans):
    assert restart_spans(DASHBOARD, Answer(*times)) == spans


def test_a_panel_of_which_nothing_is_known_has_no_data():
    assert not has_data([])
    assert not has_data([{"values": [[1, "NaN"], [2, "NaN"]]}])
    assert has_data([{"values": [[1, "NaN"], [2, "0"]]}])


def test_without_a_browser_there_is_no_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not photograph({"dashboard": DASHBOARD}, tmp_path / "picture.png")
    assert "chromium" in capsys.readouterr().out
