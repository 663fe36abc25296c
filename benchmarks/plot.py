"""Draws the results of `bench_serving`: python benchmarks/plot.py FILE.json.

Needs matplotlib, which the extra `bench` brings.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison import OURS, PEER, Row
from measures import BEFORE, DURING, LATER_TURNS, RATE

MISSING = "no plot: matplotlib is missing; install lockgate[bench]"
COLORS = {OURS: "#0b6e99", PEER: "#d1622b"}
GREY = "#5f6368"
PANEL_SIZE = (5.4, 3.9)  # inches
DPI = 150


@dataclass(frozen=True)
class Line:
    """A measure as a line for each server. Of the first line the values are written out."""

    measure: str
    label: str = ""
    style: str = "-"


@dataclass(frozen=True)
class Panel:
    """One part of the picture."""

    workload: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    is_log: bool = False


PANELS = (
    Panel("short", "Short chats: throughput", "tokens/s", (Line(RATE.name),)),
    Panel("shared", "A long system prompt in common: throughput", "tokens/s", (Line(RATE.name),)),
    Panel(
        "long",
        "A long prompt comes in: inter-token p95 of the others",
        "ms",
        (Line(f"{DURING} p95", "during"), Line(f"{BEFORE} p95", "before", ":")),
        is_log=True,
    ),
    Panel(
        "multiturn",
        "Conversations: TTFT of the turns after the first",
        "ms",
        (Line(f"{LATER_TURNS} p50", "p50"), Line(f"{LATER_TURNS} p95", "p95", ":")),
    ),
)


def draw(rows: Sequence[Row], path: Path, *, subtitle: str = "") -> None:
    """A picture with a panel for each workload. Raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [panel for panel in PANELS if any(row.workload == panel.workload for row in rows)]
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns)
    size = (PANEL_SIZE[0] * columns, PANEL_SIZE[1] * lines + 0.5)
    figure, axes = pyplot.subplots(lines, columns, figsize=size, squeeze=False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        _draw_panel(axis, panel, rows)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(subtitle, fontsize=9, color=GREY)
    figure.tight_layout()
    figure.savefig(path, dpi=DPI)
    pyplot.close(figure)


def _draw_panel(axis: Any, panel: Panel, rows: Sequence[Row]) -> None:
    found = [row for row in rows if row.workload == panel.workload]
    streams = sorted({row.streams for row in found})
    for line in panel.lines:
        points = {streams.index(row.streams): row for row in found if row.measure == line.measure}
        for server in (OURS, PEER):
            _draw_line(axis, points, server, line)
        if line is panel.lines[0]:
            _write_values(axis, points)
    axis.set_title(panel.title, fontsize=10, loc="left")
    axis.set_xticks(range(len(streams)), [str(number) for number in streams])
    axis.set_xlabel("streams", color=GREY)
    axis.set_ylabel(panel.unit, color=GREY)
    axis.margins(x=0.08, y=0.18)
    _set_scale(axis, panel)
    axis.legend(frameon=False, fontsize=8)
    axis.grid(axis="y", color="#e3e5e8", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_line(axis: Any, points: Mapping[int, Row], server: str, line: Line) -> None:
    values = {place: _value(row, server) for place, row in points.items()}
    known = {place: value for place, value in values.items() if value is not None}
    if known:
        label = f"{server}, {line.label}" if line.label else server
        style = {"color": COLORS[server], "marker": "o", "markersize": 4, "label": label}
        axis.plot(list(known), list(known.values()), line.style, **style)


def _write_values(axis: Any, points: Mapping[int, Row]) -> None:
    """Beside each point: above the higher one of the two, below the lower one."""
    for place, row in points.items():
        is_ours_higher = (row.ours or 0.0) >= (row.peer or 0.0)
        for server in (OURS, PEER):
            value = _value(row, server)
            if value is None:
                continue
            axis.annotate(
                f"{value:.3g}" if value < 1000 else f"{value:,.0f}",
                (place, value),
                textcoords="offset points",
                xytext=(0, 6 if is_ours_higher == (server == OURS) else -13),
                ha="center",
                fontsize=7,
                color=COLORS[server],
            )


def _value(row: Row, server: str) -> float | None:
    return row.ours if server == OURS else row.peer


def _set_scale(axis: Any, panel: Panel) -> None:
    if panel.is_log:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
        axis.tick_params(axis="y", which="minor", labelsize=7, labelcolor=GREY)
    else:
        axis.set_ylim(bottom=0)


def read_rows(documents: Iterable[dict[str, Any]]) -> list[Row]:
    """The rows as they stand in a file of results."""
    return [Row(**document) for document in documents]


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a file of bench_serving's results.")
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    document = json.loads(file.read_text(encoding="utf-8"))
    path = file.with_suffix(".png")
    try:
        draw(read_rows(document["rows"]), path, subtitle=document["title"])
    except ImportError:
        raise SystemExit(MISSING) from None
    print(f"written to {path}")


if __name__ == "__main__":
    main()
