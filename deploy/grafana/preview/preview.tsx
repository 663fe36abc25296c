/** The dashboard, drawn by the panel components of Grafana's library from `window.picture`. */
import { createRoot } from 'react-dom/client';
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import 'uplot/dist/uPlot.min.css';
import type uPlot from 'uplot';
import {
  colorManipulator,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  ThemeContext,
} from '@grafana/data';
import {
  BigValue,
  GlobalStyles,
  PanelChrome,
  REGION_FILL_ALPHA,
  TimeSeries,
  UPlotConfigBuilder,
  VizRepeater,
} from '@grafana/ui';
import { Heatmap, StateTimeline } from './cells';
import { dependencies } from './package.json';
import { framesOf, graphable, theme, timeRange, TIME_ZONE, type Panel, type Picture, type Props } from './frames';

declare global {
  interface Window {
    picture: Picture;
  }
}

// Pixels, as Grafana lays a dashboard out.
const [COLUMNS, LINE, GAP, HEAD] = [24, 30, 8, 40];

function Dashboard({ picture }: { picture: Picture }) {
  const { title, panels } = picture.dashboard;
  const note = `drawn with @grafana/ui ${dependencies['@grafana/ui']}, without a Grafana server`;
  const place = { position: 'absolute', left: GAP, right: GAP, height: HEAD } as const;
  return (
    <>
      <div style={{ ...place, display: 'flex', alignItems: 'center', justifyContent: 'space-between' }}>
        <span style={{ fontSize: 20 }}>{title}</span>
        <span style={{ color: theme.colors.text.secondary }}>{note}</span>
      </div>
      {panels.map((panel) => (
        <Placed key={panel.id} picture={picture} panel={panel} />
      ))}
    </>
  );
}

function Placed({ picture, panel }: { picture: Picture; panel: Panel }) {
  const { x, y, w, h } = panel.gridPos;
  const column = (window.innerWidth - GAP) / COLUMNS;
  const size = { width: w * column - GAP, height: h * (LINE + GAP) - GAP };
  const place = { left: GAP + x * column, top: HEAD + y * (LINE + GAP) };
  return (
    <div style={{ position: 'absolute', ...place, ...size }}>
      {panel.type === 'row' ? (
        <div style={{ fontSize: 16, fontWeight: 500, lineHeight: `${LINE}px` }}>{panel.title}</div>
      ) : (
        <PanelChrome title={panel.title} padding={panel.type === 'stat' ? 'none' : 'md'} {...size}>
          {(width: number, height: number) => <Content picture={picture} panel={panel} width={width} height={height} />}
        </PanelChrome>
      )}
    </div>
  );
}

function Content(props: Omit<Props, 'frames'>) {
  const frames = framesOf(props.picture, props.panel);
  const Drawn = KINDS[props.panel.type];
  if (frames.length === 0 && props.panel.type !== 'stat') {
    return <Nothing {...props} />;
  }
  return <Drawn {...props} frames={frames} />;
}

function Nothing({ panel, width, height }: Omit<Props, 'frames'>) {
  const style = { width, height, display: 'grid', placeItems: 'center', color: theme.colors.text.secondary };
  return <div style={style}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
}

function Stat({ panel, frames, width, height }: Props) {
  const { options, fieldConfig } = panel;
  const values = () =>
    getFieldDisplayValues({
      data: frames,
      fieldConfig,
      reduceOptions: options.reduceOptions,
      replaceVariables: (text) => text,
      sparkline: options.graphMode !== 'none',
      theme,
      timeZone: TIME_ZONE,
    });
  return (
    <VizRepeater
      getValues={values}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, alignmentFactors, count, ...size }) => (
        <BigValue
          {...size}
          theme={theme}
          value={value.display}
          sparkline={value.sparkline}
          alignmentFactors={alignmentFactors}
          count={count}
          colorMode={options.colorMode}
          graphMode={options.graphMode}
          justifyMode={options.justifyMode}
          textMode={options.textMode}
        />
      )}
      source={frames}
      orientation={options.orientation}
      itemSpacing={3}
      renderCounter={0}
      autoGrid
      width={width}
      height={height}
    />
  );
}

function Lines({ picture, panel, frames, width, height }: Props) {
  return (
    <TimeSeries
      frames={graphable(frames)}
      width={width}
      height={height}
      timeRange={timeRange(picture)}
      timeZone={TIME_ZONE}
      legend={panel.options.legend}
    >
      {(builder) => <Restarts builder={builder} spans={picture.restarts} />}
    </TimeSeries>
  );
}

/** Annotations are drawn by Grafana's application and not by its library. */
function Restarts({ builder, spans }: { builder: UPlotConfigBuilder; spans: Array<[number, number]> }) {
  const color = theme.visualization.getColorByName('orange');
  builder.addHook('draw', (u: uPlot) => {
    const { top, height } = u.bbox;
    u.ctx.save();
    u.ctx.strokeStyle = color;
    u.ctx.fillStyle = colorManipulator.alpha(color, REGION_FILL_ALPHA);
    u.ctx.setLineDash([4, 4]);
    for (const span of spans) {
      const [from, to] = span.map((time) => u.valToPos(time * 1000, 'x', true));
      u.ctx.fillRect(from, top, to - from, height);
      u.ctx.stroke(new Path2D(`M${from} ${top}v${height}M${to} ${top}v${height}`));
    }
    u.ctx.restore();
  });
  return null;
}

const KINDS: Record<string, (props: Props) => React.ReactNode> = {
  stat: Stat,
  timeseries: Lines,
  heatmap: Heatmap,
  'state-timeline': StateTimeline,
};

createRoot(document.getElementById('root')!).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <Dashboard picture={window.picture} />
  </ThemeContext.Provider>
);
