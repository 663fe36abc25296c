/** The answers of Prometheus as Grafana's data frames, with the dashboard's settings applied. */
import {
  applyFieldOverrides,
  createTheme,
  dateTime,
  FieldConfigOptionsRegistry,
  FieldType,
  identityOverrideProcessor,
  toDataFrame,
  type DataFrame,
  type FieldConfigPropertyItem,
  type FieldConfigSource,
  type TimeRange,
} from '@grafana/data';

export interface Series {
  refId: string;
  name: string;
  labels: Record<string, string>;
  /** Unix time in seconds, and the number as Prometheus writes it. */
  values: Array<[number, string]>;
}

export interface Panel {
  id: number;
  type: string;
  title: string;
  gridPos: { x: number; y: number; w: number; h: number };
  fieldConfig: FieldConfigSource;
  options: any;
}

/** What the page is given: the dashboard, and what Prometheus said to each panel's queries. */
export interface Picture {
  dashboard: { title: string; panels: Panel[] };
  /** Unix times in seconds, as are all others here. */
  start: number;
  end: number;
  step: number;
  /** From when to when the annotation of restarts was there. */
  restarts: Array<[number, number]>;
  answers: Record<string, Series[]>;
}

/** What a panel is drawn from, and its size in pixels. */
export interface Props {
  picture: Picture;
  panel: Panel;
  frames: DataFrame[];
  width: number;
  height: number;
}

export const theme = createTheme({ colors: { mode: 'dark' } });
export const TIME_ZONE = 'utc';

const STANDARD = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'thresholds', 'mappings', 'color'];

export function timeRange({ start, end }: Picture): TimeRange {
  const [from, to] = [dateTime(start * 1000), dateTime(end * 1000)];
  return { from, to, raw: { from, to } };
}

/** The panel's frames, one for each series, after its defaults and overrides. */
export function framesOf(picture: Picture, panel: Panel): DataFrame[] {
  const data = (picture.answers[panel.id] ?? []).map((series) => frameOf(series, picture.step));
  return applyFieldOverrides({
    data,
    fieldConfig: panel.fieldConfig,
    fieldConfigRegistry: registryOf(panel.fieldConfig),
    replaceVariables: (text) => text,
    theme,
    timeZone: TIME_ZONE,
  });
}

function frameOf({ refId, name, labels, values }: Series, step: number): DataFrame {
  const times = values.map(([time]) => time * 1000);
  const numbers = values.map(([, value]) => Number(value.replace('Inf', 'Infinity')));
  return toDataFrame({
    refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: times, config: { interval: step * 1000 } },
      { name: 'Value', type: FieldType.number, labels, values: numbers, config: { displayNameFromDS: name } },
    ],
  });
}

/** As Grafana does before it draws lines: what is no number is a gap, and does not confuse the scale. */
export function graphable(frames: DataFrame[]): DataFrame[] {
  return frames.map((frame) => ({
    ...frame,
    fields: frame.fields.map((field) => ({
      ...field,
      values: field.values.map((value) => (Number.isFinite(value) ? value : null)),
    })),
  }));
}

/** Grafana leaves out what is not registered, so everything that the panel sets is. */
function registryOf({ defaults, overrides }: FieldConfigSource): FieldConfigOptionsRegistry {
  const custom = Object.keys(defaults.custom ?? {}).map((key) => `custom.${key}`);
  const overridden = overrides.flatMap(({ properties }) => properties.map(({ id }) => id));
  const ids = new Set([...STANDARD, ...custom, ...overridden]);
  return new FieldConfigOptionsRegistry(() => [...ids].map(propertyOf));
}

function propertyOf(id: string): FieldConfigPropertyItem {
  const isCustom = id.startsWith('custom.');
  return {
    id,
    path: isCustom ? id.slice('custom.'.length) : id,
    isCustom,
    name: id,
    process: identityOverrideProcessor,
    shouldApply: () => true,
    editor: () => null,
    override: () => null,
  };
}
