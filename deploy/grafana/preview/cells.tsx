/** State timelines and heatmaps: Grafana's library has no component for them, but their axes. */
import { useMemo } from 'react';
import { interpolateOranges } from 'd3-scale-chromatic';
import type uPlot from 'uplot';
import { formattedValueToString, getFieldDisplayName, getValueFormat, type DataFrame } from '@grafana/data';
import { AxisPlacement, GraphDrawStyle, ScaleDirection, ScaleOrientation } from '@grafana/schema';
import { UPlotChart, UPlotConfigBuilder } from '@grafana/ui';
import { theme, TIME_ZONE, type Picture, type Props } from './frames';

const LABEL_HEIGHT = 18; // pixels

interface Cell {
  row: number;
  /** Milliseconds. */
  from: number;
  to: number;
  color: string;
}

interface Grid {
  labels: string[];
  cells: Cell[];
  direction: ScaleDirection;
  /** The share of a row's height that its cells take. */
  rowHeight: number;
}

export function StateTimeline({ picture, panel, frames, ...size }: Props) {
  const cells = frames.flatMap((frame, row) => statesOf(frame, row, picture.step * 1000));
  const labels = frames.map((frame) => getFieldDisplayName(frame.fields[1], frame, frames));
  const { rowHeight } = panel.options;
  return <Cells picture={picture} {...size} grid={{ labels, cells, direction: ScaleDirection.Down, rowHeight }} />;
}

function statesOf(frame: DataFrame, row: number, step: number): Cell[] {
  const [time, value] = columns(frame);
  return time.map((from, at) => ({
    row,
    from,
    to: from + step,
    color: frame.fields[1].display!(value[at]).color ?? 'transparent',
  }));
}

function columns(frame: DataFrame): [number[], number[]] {
  return [frame.fields[0].values, frame.fields[1].values];
}

export function Heatmap({ picture, panel, frames, ...size }: Props) {
  const { filterValues, color, yAxis } = panel.options;
  const bound = (frame: DataFrame) => Number(frame.fields[1].labels!.le.replace('Inf', 'Infinity'));
  const ordered = [...frames].sort((one, other) => bound(one) - bound(other));
  const counts = ordered.map((frame, row) => inBucket(frame, ordered[row - 1]));
  const highest = Math.max(...counts.flat());
  const cells = counts.flatMap((row, number) =>
    row.flatMap((count, at) => {
      const to = ordered[number].fields[0].values[at];
      const share = Math.pow(count / highest, color.exponent);
      // Dark means few: the scheme is turned round in the dark theme.
      const shade = interpolateOranges(1 - Math.round(share * (color.steps - 1)) / (color.steps - 1));
      return count > filterValues.le ? [{ row: number, from: to - picture.step * 1000, to, color: shade }] : [];
    })
  );
  const format = getValueFormat(yAxis.unit);
  const labels = ordered.map((frame) => (isFinite(bound(frame)) ? formattedValueToString(format(bound(frame))) : '+Inf'));
  return <Cells picture={picture} {...size} grid={{ labels, cells, direction: ScaleDirection.Up, rowHeight: 1 }} />;
}

/** Buckets are cumulative: what is in one is the difference from the one below. */
function inBucket(frame: DataFrame, below: DataFrame | undefined): number[] {
  const [times, values] = columns(frame);
  const [otherTimes, others] = below ? columns(below) : [[], []];
  const lower = new Map(otherTimes.map((time, at) => [time, others[at]]));
  return times.map((time, at) => Math.max(0, values[at] - (lower.get(time) ?? 0)));
}

function Cells({ picture, width, height, grid }: { picture: Picture; width: number; height: number; grid: Grid }) {
  const builder = useMemo(() => builderOf(picture, grid, height), []);
  const edges = [picture.start * 1000, picture.end * 1000];
  return <UPlotChart config={builder} data={[edges, [null, null]]} width={width} height={height} />;
}

function builderOf(picture: Picture, grid: Grid, height: number): UPlotConfigBuilder {
  const builder = new UPlotConfigBuilder(TIME_ZONE);
  addTime(builder, picture);
  addRows(builder, grid, height);
  builder.addSeries({ scaleKey: 'y', drawStyle: GraphDrawStyle.Line, theme });
  builder.addHook('draw', (u) => paint(u, grid));
  return builder;
}

function addTime(builder: UPlotConfigBuilder, { start, end }: Picture) {
  builder.addScale({
    scaleKey: 'x',
    isTime: true,
    orientation: ScaleOrientation.Horizontal,
    direction: ScaleDirection.Right,
    range: () => [start * 1000, end * 1000],
  });
  builder.addAxis({ scaleKey: 'x', isTime: true, placement: AxisPlacement.Bottom, timeZone: TIME_ZONE, theme });
}

/** Rows have names as far as there is room for them. */
function addRows(builder: UPlotConfigBuilder, { labels, direction }: Grid, height: number) {
  const everyNth = Math.ceil((labels.length * LABEL_HEIGHT) / height);
  builder.addScale({
    scaleKey: 'y',
    orientation: ScaleOrientation.Vertical,
    direction,
    range: () => [-0.5, labels.length - 0.5],
  });
  builder.addAxis({
    scaleKey: 'y',
    placement: AxisPlacement.Left,
    theme,
    splits: labels.map((_, row) => row),
    values: labels.map((label, row) => (row % everyNth ? '' : label)),
    grid: { show: false },
  });
}

function paint(u: uPlot, { cells, rowHeight }: Grid) {
  const { left, top, width, height } = u.bbox;
  u.ctx.save();
  u.ctx.beginPath();
  u.ctx.rect(left, top, width, height);
  u.ctx.clip();
  for (const { row, from, to, color } of cells) {
    const x = [from, to].map((time) => Math.round(u.valToPos(time, 'x', true)));
    const y = [row - rowHeight / 2, row + rowHeight / 2].map((at) => Math.round(u.valToPos(at, 'y', true)));
    u.ctx.fillStyle = color;
    u.ctx.fillRect(x[0], Math.min(...y), x[1] - x[0], Math.abs(y[1] - y[0]));
  }
  u.ctx.restore();
}
