"""A picture of deploy's dashboard: its own queries, a real Prometheus, Grafana's own panels.

    npm --prefix deploy/grafana/preview install
    npm --prefix deploy/grafana/preview run build
    python benchmarks/dashboard_picture.py --url http://127.0.0.1:9090 --minutes 10 --out FILE.png

There is no Grafana server in it. The queries are sent from here, the page in deploy/grafana/preview
draws the answers with the components of @grafana/ui, and a Chromium without a window takes the
picture.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "lockgate.json"
PREVIEW = ROOT / "deploy" / "grafana" / "preview"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, LINE, HEAD = 1600, 38, 48  # pixels: a line of the grid with its gap, and what is above it
POINTS = 240
HEADLESS = (
    "--headless",
    "--disable-gpu",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=10000",  # of the page's own clock, which does not wait
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass(frozen=True)
class Source:
    """A Prometheus, the time range that is shown, and values of the dashboard's variables."""

    url: str
    start: float
    end: float
    variables: Mapping[str, str]

    @property
    def step(self) -> float:
        return max(1.0, (self.end - self.start) / POINTS)

    def ask(self, expression: str, *, is_instant: bool = False) -> list[dict[str, Any]]:
        """Every series of the answer, its `metric` and its `values`, each a Unix time and a number
        in Prometheus' spelling: over the whole range, or at its end alone. Raises OSError where
        Prometheus does not answer or does not like the query."""
        fields = {"query": fill_in(expression, self.variables)}
        if is_instant:
            answer = self._get("query", {**fields, "time": f"{self.end:.3f}"})
            return [{**each, "values": [each["value"]]} for each in answer["result"]]
        span = {"start": f"{self.start:.3f}", "end": f"{self.end:.3f}", "step": f"{self.step:.3f}"}
        answer = self._get("query_range", {**fields, **span})
        return list(answer["result"])

    def _get(self, path: str, fields: Mapping[str, str]) -> Any:
        return get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(fields)}")


def get(url: str) -> Any:
    """The data of Prometheus' answer."""
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.load(response)["data"]


def fill_in(expression: str, variables: Mapping[str, str]) -> str:
    """The query with its variables; longer names first, since one may begin like another."""
    for name in sorted(variables, key=len, reverse=True):
        expression = expression.replace(f"${name}", variables[name])
    return expression


def variables_of(dashboard: dict[str, Any], start: float, end: float, rate: str) -> dict[str, str]:
    """What Grafana would put in: everything that is offered, and the selected value of a choice."""
    found = {"__rate_interval": rate, "__range": f"{max(1, int(end - start))}s"}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found[variable["name"]] = variable["allValue"]
        elif variable["type"] == "custom":
            found[variable["name"]] = variable["current"]["value"]
    return found


def named(legend: str, labels: Mapping[str, str]) -> str:
    """A series' name, as the legend's format wants it; a label that it has not is left out."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend)


def answers_to(panel: dict[str, Any], source: Source) -> list[dict[str, Any]]:
    """The series of all queries of a panel, as the page wants them."""
    return [
        {
            "refId": target["refId"],
            "name": named(target["legendFormat"], each["metric"]),
            "labels": each["metric"],
            "values": each["values"],
        }
        for target in panel.get("targets", ())
        for each in source.ask(target["expr"], is_instant=target["instant"])
    ]


def restart_spans(dashboard: dict[str, Any], source: Source) -> list[list[float]]:
    """From when to when, in Unix time, the first annotation with a query was there."""
    [query, *_] = [entry["expr"] for entry in dashboard["annotations"]["list"] if "expr" in entry]
    spans: list[list[float]] = []
    for each in source.ask(query):
        last = -math.inf
        for now, _ in each["values"]:
            if now - last > 1.5 * source.step:
                spans.append([now, now])
            spans[-1][1] = last = now
    return spans


def photograph(document: dict[str, Any], path: Path) -> bool:
    """Have the page draw what Prometheus said, and write the picture of it; false where there is
    no browser or no page yet. Raises RuntimeError where the page fails."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or not (PREVIEW / "build").is_dir():
        print(f"no picture: it needs one of {', '.join(BROWSERS)}, and {PREVIEW / 'build'}")
        return False
    with tempfile.TemporaryDirectory() as name:
        page = shutil.copytree(PREVIEW / "build", Path(name, "page"))
        (page / "data.js").write_text(f"window.picture = {json.dumps(document)};\n")
        options = [
            f"--user-data-dir={Path(name, 'profile')}",
            f"--window-size={WIDTH},{height_of(document['dashboard'])}",
            f"--screenshot={path.resolve()}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
        ]
        command = [browser, *HEADLESS, *options, (page / "index.html").as_uri()]
        done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
    if "Uncaught" in done.stderr:
        raise RuntimeError(f"the page failed: {done.stderr}")
    return True


def height_of(dashboard: dict[str, Any]) -> int:
    """Pixels of the whole, as the page lays it out."""
    places: list[dict[str, int]] = [panel["gridPos"] for panel in dashboard["panels"]]
    return max(place["y"] + place["h"] for place in places) * LINE + HEAD


def has_data(answers: list[dict[str, Any]]) -> bool:
    return any(value != "NaN" for each in answers for _, value in each["values"])


def picture(url: str, start: float, end: float, rate_interval: str, out: Path) -> list[str]:
    """Draw deploy's dashboard from a Prometheus between two times; the titles of empty panels."""
    dashboard = json.loads(DASHBOARD.read_text())
    source = Source(url, start, end, variables_of(dashboard, start, end, rate_interval))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    answers = {str(panel["id"]): answers_to(panel, source) for panel in panels}
    document = {
        "dashboard": dashboard,
        "start": start,
        "end": end,
        "step": source.step,
        "restarts": restart_spans(dashboard, source),
        "answers": answers,
    }
    if photograph(document, out):
        print(f"written: {out}")
    empty = [panel["title"] for panel in panels if not has_data(answers[str(panel["id"])])]
    print(f"without data: {', '.join(empty) or 'none'}")
    return empty


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:9090", help="of Prometheus")
    parser.add_argument("--minutes", type=float, default=30.0, help="how much is shown")
    parser.add_argument("--until", type=float, default=time.time(), help="Unix time; now")
    parser.add_argument("--rate-interval", default="40s", help="what $__rate_interval stands for")
    parser.add_argument("--out", type=Path, default=Path("dashboard.png"))
    arguments = parser.parse_args()
    end = arguments.until
    picture(
        arguments.url, end - arguments.minutes * 60, end, arguments.rate_interval, arguments.out
    )


if __name__ == "__main__":
    main()
