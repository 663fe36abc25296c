"""A picture of a Grafana dashboard without Grafana: each panel's own queries, sent to Prometheus.

    python benchmarks/dashboard_picture.py --url http://127.0.0.1:9090 --minutes 10 --out FILE.png

The dashboard's grid, titles, units, colours and legends are followed as far as the panels of
deploy/grafana need it; it is no Grafana. Needs matplotlib, which the extra `bench` brings.
"""

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "lockgate.json"
COLUMNS = 24
WIDTH, ROW_HEIGHT = 21.0, 0.36  # inches: of the whole, and of one line of the grid
GAP, HEAD = 0.28, 0.3  # inches: between panels, and for the title of each
DPI = 75
POINTS = 240
INK, PALE, PAPER = "#d8d9da", "#8e9297", "#181b1f"
NAMED = {
    "green": "#73bf69",
    "yellow": "#fade2a",
    "orange": "#ff9830",
    "red": "#f2495c",
    "blue": "#5794f2",
    "light-blue": "#8ab8ff",
    "purple": "#b877d9",
    "dark-orange": "#fa6400",
    "text": INK,
    "transparent": PAPER,
}
PALETTE = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#ffa6b0")


@dataclass(frozen=True)
class Series:
    """One line of an answer: its legend, and points of time and value (NaN where there is none)."""

    name: str
    labels: Mapping[str, str]
    times: list[float]
    values: list[float]

    def last(self) -> float:
        return next((value for value in reversed(self.values) if not math.isnan(value)), math.nan)


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

    def ask(self, expression: str, legend: str, *, is_instant: bool = False) -> list[Series]:
        """Every series of the answer on the same points of time, or at the end alone. Raises
        OSError where Prometheus does not answer or does not like the query."""
        fields = {"query": fill_in(expression, self.variables), "step": f"{self.step:.3f}"}
        if is_instant:
            fields["time"] = f"{self.end:.3f}"
            answer = get(f"{self.url}/api/v1/query?{urllib.parse.urlencode(fields)}")
            results = [{**each, "values": [each["value"]]} for each in answer["result"]]
            return [self._series(each, legend) for each in results]
        fields |= {"start": f"{self.start:.3f}", "end": f"{self.end:.3f}"}
        answer = get(f"{self.url}/api/v1/query_range?{urllib.parse.urlencode(fields)}")
        return [self._series(each, legend) for each in answer["result"]]

    def _series(self, result: dict[str, Any], legend: str) -> Series:
        known = {
            round((at - self.start) / self.step): float(value) for at, value in result["values"]
        }
        places = range(int((self.end - self.start) / self.step + 1e-6) + 1)
        labels = result["metric"]
        name = re.sub(r"\{\{(\w+)\}\}", lambda match: str(labels.get(match[1], "")), legend)
        times = [place * self.step / 60 for place in places]
        return Series(name, labels, times, [known.get(place, math.nan) for place in places])


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


def draw(dashboard: dict[str, Any], source: Source, path: Path, note: str) -> list[str]:
    """Write the picture; gives the titles of panels that had nothing to show."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    height = lines * ROW_HEIGHT + 0.7
    figure = pyplot.figure(figsize=(WIDTH, height), facecolor="#111217")
    restarts = restart_times(dashboard, source)
    figure.text(0.008, 1 - 0.25 / height, dashboard["title"], color=INK, size=16, va="center")
    figure.text(0.992, 1 - 0.25 / height, note, color=PALE, size=9, va="center", ha="right")
    empty = []
    for panel in dashboard["panels"]:
        if not draw_panel(figure, panel, source, height, restarts):
            empty.append(panel["title"])
    figure.savefig(path, dpi=DPI, facecolor=figure.get_facecolor())
    pyplot.close(figure)
    make_small(path)
    return empty


def make_small(path: Path) -> None:
    """A palette instead of true colours: a third of the size. Pillow comes with matplotlib."""
    from PIL import Image

    with Image.open(path) as image:
        image.convert("RGB").quantize(200, dither=Image.Dither.NONE).save(path, optimize=True)


def restart_times(dashboard: dict[str, Any], source: Source) -> list[float]:
    """Minutes at which the first annotation with a query begins."""
    [query, *_] = [entry["expr"] for entry in dashboard["annotations"]["list"] if "expr" in entry]
    found = []
    for series in source.ask(query, ""):
        pairs = zip([math.nan, *series.values], series.values, series.times, strict=False)
        found += [at for before, now, at in pairs if math.isnan(before) and not math.isnan(now)]
    return found


def draw_panel(
    figure: Any, panel: dict[str, Any], source: Source, height: float, restarts: Iterable[float]
) -> bool:
    """True if there was something to show."""
    place = panel["gridPos"]
    left = place["x"] / COLUMNS
    top = 1 - (0.5 + place["y"] * ROW_HEIGHT) / height
    if panel["type"] == "row":
        figure.text(left + 0.006, top - 0.18 / height, f"▾ {panel['title']}", color=INK, size=12)
        return True
    wide, high = place["w"] / COLUMNS, place["h"] * ROW_HEIGHT / height
    border = 0.04 / WIDTH
    size = (left + border, top - high + 0.04 / height, wide - 2 * border, high - 0.08 / height)
    frame = figure.add_axes(size, facecolor=PAPER, xticks=[], yticks=[])
    frame.spines[:].set_visible(False)
    figure.text(left + 0.005, top - 0.2 / height, panel["title"], color=INK, size=9.5)
    unit = AXIS_UNITS.get(panel["fieldConfig"]["defaults"]["unit"], "")
    if panel["type"] == "timeseries":
        right = left + wide - 0.005
        figure.text(right, top - 0.2 / height, unit, color=PALE, size=8, ha="right")
    series = [
        each
        for target in panel["targets"]
        for each in source.ask(target["expr"], target["legendFormat"], is_instant=target["instant"])
    ]
    if not any(not math.isnan(value) for each in series for value in each.values):
        nothing = panel["fieldConfig"]["defaults"].get("noValue", "No data")
        frame.text(0.5, 0.45, nothing, color=PALE, ha="center", va="center", size=11)
        return False
    if panel["type"] == "stat":
        draw_stat(frame, panel, series)
        return True
    margin = 2.0 if panel["type"] == "state-timeline" else 0.68
    bottom = 0.26 if panel["type"] in {"state-timeline", "heatmap"} else 0.62
    inner = (
        left + margin / WIDTH,
        top - high + bottom / height,
        wide - (margin + 0.15) / WIDTH,
        high - (bottom + HEAD + 0.08) / height,
    )
    axis = figure.add_axes(inner, facecolor=PAPER)
    style_axis(axis, source)
    DRAWERS[panel["type"]](axis, panel, series)
    for at in restarts:
        axis.axvline(at, color=NAMED["orange"], linewidth=0.7, linestyle=":")
    return True


def style_axis(axis: Any, source: Source) -> None:
    axis.set_xlim(0, (source.end - source.start) / 60)
    axis.tick_params(colors=PALE, labelsize=7.5, length=2)
    axis.xaxis.set_major_formatter(lambda minutes, _: f"{minutes:g} min")
    axis.grid(color="#2c3036", linewidth=0.5)
    axis.spines[:].set_visible(False)
    axis.set_axisbelow(True)


def draw_lines(axis: Any, panel: dict[str, Any], series: list[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    series = [each for each in series if not math.isnan(each.last())] or series
    colors = [color_of(panel, each.name, number) for number, each in enumerate(series)]
    if defaults["custom"]["stacking"]["mode"] == "normal":
        values = [[0.0 if math.isnan(v) else v for v in each.values] for each in series]
        axis.stackplot(series[0].times, *values, colors=colors, alpha=0.55, linewidth=0)
    for each, color in zip(series, colors, strict=True):
        if defaults["custom"]["stacking"]["mode"] == "none":
            dash = "--" if is_dashed(panel, each.name) else "-"
            axis.plot(each.times, each.values, dash, color=color, linewidth=1.2)
    draw_threshold(axis, defaults)
    axis.set_ylim(bottom=defaults.get("min"), top=defaults.get("max"))
    if (
        axis.get_ylim()[1] <= 0.06
        and defaults.get("max") is None
        and not any(value > 0 for each in series for value in each.values)
    ):
        axis.set_ylim(top=1)
    unit = "short" if defaults["unit"] in AXIS_UNITS else defaults["unit"]  # it is in the title
    axis.yaxis.set_major_formatter(lambda value, _: written(value, unit))
    draw_legend(axis, [each.name for each in series], colors)


def draw_legend(axis: Any, names: list[str], colors: list[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    handles = [Line2D([], [], color=color, linewidth=3) for color in colors]
    axis.legend(
        handles[:8],
        [short(name) for name in names[:8]],
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=axis.transAxes
        + ScaledTranslation(-0.55, -0.19, axis.figure.dpi_scale_trans),
        ncols=5,
        fontsize=7.5,
        frameon=False,
        labelcolor=INK,
        handlelength=1.0,
        columnspacing=1.0,
        borderaxespad=0.1,
    )


def draw_threshold(axis: Any, defaults: dict[str, Any]) -> None:
    if defaults["custom"]["thresholdsStyle"]["mode"] != "off":
        for step in defaults["thresholds"]["steps"][1:]:
            axis.axhline(step["value"], color=NAMED[step["color"]], linewidth=0.8, linestyle="--")


def draw_stat(frame: Any, panel: dict[str, Any], series: list[Series]) -> None:
    """The last value of each series, or its name, in the colour of its threshold."""
    defaults, options = panel["fieldConfig"]["defaults"], panel["options"]
    series = [each for each in series if not math.isnan(each.last())]
    for number, each in enumerate(series):
        color = override(panel, each.name, "color")
        shown = NAMED[color["fixedColor"]] if color else NAMED[threshold(defaults, each.last())]
        is_name = options["textMode"] == "name"
        text = each.name if is_name else written(each.last(), defaults["unit"], defaults)
        at = ((number + 0.5) / len(series), 0.38)
        size = min(
            22.0, 1.7 * 72 * frame.bbox.width / frame.figure.dpi / len(series) / max(len(text), 8)
        )
        if options["colorMode"] == "background":
            frame.set_facecolor(shown)
            shown = "#ffffff"
        frame.text(*at, text, color=shown, size=size, ha="center", va="center")


def draw_states(axis: Any, panel: dict[str, Any], series: list[Series]) -> None:
    mappings = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    for number, each in enumerate(series):
        width = each.times[1] - each.times[0]
        for at, value in zip(each.times, each.values, strict=True):
            color = mappings.get(f"{value:g}", {}).get("color", "transparent")
            if color != "transparent":
                axis.barh(number, width, left=at, height=0.7, color=NAMED[color], linewidth=0)
    axis.set_ylim(len(series) - 0.4, -0.6)
    axis.set_yticks(range(len(series)), [short(each.name) for each in series], color=INK)
    axis.grid(visible=False)


def draw_heatmap(axis: Any, panel: dict[str, Any], series: list[Series]) -> None:
    """Buckets are cumulative: what is in one is the difference from the one below."""
    ordered = sorted(series, key=lambda each: float(each.labels["le"]))
    below = [0.0] * len(ordered[0].values)
    rows = []
    for each in ordered:
        now = [0.0 if math.isnan(value) else value for value in each.values]
        rows.append([max(0.0, a - b) or math.nan for a, b in zip(now, below, strict=True)])
        below = now
    edges = [n - 0.5 for n in range(len(rows) + 1)]
    step = ordered[0].times[1]
    across = [*(at - step for at in ordered[0].times), ordered[0].times[-1]]
    limits = axis.get_xlim()
    axis.pcolormesh(across, edges, rows, cmap="YlOrRd", shading="flat")
    axis.set_xlim(limits)
    used = [n for n, row in enumerate(rows) if any(not math.isnan(value) for value in row)]
    axis.set_ylim(max(-0.5, used[0] - 1.5), min(len(rows) - 0.5, used[-1] + 1.5))
    bounds = [each.labels["le"] for each in ordered]
    labels = ["more" if b == "+Inf" else f"≤ {written(float(b), 's')}" for b in bounds]
    shown = range(max(0, used[0] - 1), min(len(rows), used[-1] + 2))
    axis.set_yticks(list(shown), [labels[place] for place in shown])


DRAWERS = {"timeseries": draw_lines, "state-timeline": draw_states, "heatmap": draw_heatmap}


def override(panel: dict[str, Any], name: str, property_name: str) -> Any:
    """The last override that matches, as in Grafana; None where there is none."""
    found = None
    for entry in panel["fieldConfig"]["overrides"]:
        matcher, options = entry["matcher"]["id"], entry["matcher"]["options"]
        is_match = (
            options == name
            if matcher == "byName"
            else re.search(options.strip("/"), name) is not None
        )
        for each in entry["properties"] if is_match else ():
            found = each["value"] if each["id"] == property_name else found
    return found


def color_of(panel: dict[str, Any], name: str, number: int) -> str:
    color = override(panel, name, "color")
    return NAMED[color["fixedColor"]] if color else PALETTE[number % len(PALETTE)]


def is_dashed(panel: dict[str, Any], name: str) -> bool:
    return override(panel, name, "custom.lineStyle") is not None


def threshold(defaults: dict[str, Any], value: float) -> str:
    color = "text"
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    return color


def short(name: str) -> str:
    """Room is scarce: a model's name is cut in the middle."""
    return name if len(name) <= 30 else f"{name[:14]}…{name[-14:]}"


SCALES = {
    "bytes": ((2.0**30, " GiB"), (2.0**20, " MiB"), (2.0**10, " KiB"), (1.0, " B")),
    "s": ((60.0, " min"), (1.0, " s"), (1e-3, " ms"), (1e-6, " µs")),
}
AXIS_UNITS = {"reqps": "req/s", "cps": "c/s", "tokens/s": "tokens/s", "watt": "W", "celsius": "°C"}


def written(value: float, unit: str, defaults: Mapping[str, Any] | None = None) -> str:
    """A number in its unit, as Grafana writes it, more or less."""
    decimals = (defaults or {}).get("decimals")
    if unit == "bool_yes_no":
        return "Yes" if value else "No"
    if unit == "percentunit":
        return f"{value * 100:.{decimals}f}%" if decimals is not None else f"{value * 100:.4g}%"
    if unit in SCALES:
        scale, suffix = next(
            (each for each in SCALES[unit] if abs(value) >= each[0]), SCALES[unit][-1]
        )
        return "0" if value == 0 else f"{value / scale:.3g}{suffix}"
    number = f"{value:.{decimals}f}" if decimals is not None else f"{value:.4g}"
    return f"{number} {AXIS_UNITS.get(unit, '')}".rstrip()


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


def picture(url: str, start: float, end: float, rate_interval: str, out: Path) -> list[str]:
    """Draw deploy's dashboard from a Prometheus between two times; the titles of empty panels."""
    dashboard = json.loads(DASHBOARD.read_text())
    variables = variables_of(dashboard, start, end, rate_interval)
    note = "drawn from the dashboard's JSON by benchmarks/dashboard_picture.py, not by Grafana"
    empty = draw(dashboard, Source(url, start, end, variables), out, note)
    print(f"written: {out}; without data: {', '.join(empty) or 'none'}")
    return empty


if __name__ == "__main__":
    main()
