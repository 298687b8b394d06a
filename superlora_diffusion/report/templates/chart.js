"use strict";
// The chart: a figure of plotly's a score, coloured by the page's theme. Its texts come escaped from Python.

const PUBLISHED_RANGE = [Math.log10(31 / 2), Math.log10(75776 * 2)];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function themed(layout) {
  const axis = { gridcolor: colour("grid"), linecolor: colour("line"), zerolinecolor: colour("line"), tickcolor: colour("line"), automargin: true };
  return {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("ink"), size: 14, family: getComputedStyle(document.body).fontFamily },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("quiet"), activecolor: colour("accent") },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink"), size: 14 }, align: "left" },
    xaxis: { ...layout.xaxis, ...axis },
    yaxis: { ...layout.yaxis, ...axis },
  };
}

function dressed(trace, state) {
  const own = trace.meta[state.dark ? "dark" : "light"];
  switch (trace.meta.kind) {
    case "front": return { ...trace, line: { ...trace.line, color: colour("front") } };
    case "base": return { ...trace, line: { ...trace.line, color: colour("base") } };
    case "published": {
      const marker = { ...trace.marker, line: { ...trace.marker.line, color: colour("quiet") } };
      return { ...trace, marker, visible: state.published };
    }
    default: {
      const line = { ...trace.marker.line, color: trace.marker.symbol.endsWith("-open") ? own : colour("card") };
      const marker = { ...trace.marker, color: own, line };
      return { ...trace, marker, error_y: { ...trace.error_y, color: own }, visible: !state.hidden.has(trace.meta.family) };
    }
  }
}

function chartLayout(figure, state) {
  const layout = themed(figure.layout);
  const log = state.log && figure.canLog;
  layout.yaxis.type = log ? "log" : "linear";
  if (log && figure.wide) layout.yaxis.dtick = "D2"; // 1, 2, 5 of each decade
  if (state.published && state.metric.key === "is_distance") {
    const [low, high] = layout.xaxis.range;
    layout.xaxis.range = [Math.min(low, PUBLISHED_RANGE[0]), Math.max(high, PUBLISHED_RANGE[1])];
    layout.xaxis.dtick = 1;
  }
  if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger on the chart scrolls the page
  const line = { color: colour("quiet"), width: 1, dash: "dot" };
  const bases = figure.data.filter((trace) => trace.meta.kind === "base");
  layout.annotations = [...bases.map((trace) => baseNote(trace, log)), budgetNote(state)];
  layout.shapes = [{ type: "line", x0: state.budget, x1: state.budget, yref: "paper", y0: 0, y1: 1, line }];
  return layout;
}

// Notes on a log axis stand at the logarithm, unlike traces and shapes.
function baseNote(trace, log) {
  const y = log ? Math.log10(trace.y[0]) : trace.y[0];
  const font = { color: colour("base"), size: 13 };
  return { text: trace.meta.text, x: 1, xref: "paper", xanchor: "right", y, yanchor: "bottom", showarrow: false, font };
}

function budgetNote(state) {
  const font = { color: colour("quiet"), size: 12 };
  return { text: `≤ ${count(state.budget)}`, x: Math.log10(state.budget), y: 1, yref: "paper", yanchor: "bottom", showarrow: false, font };
}

function drawChart(state) {
  const figure = state.view.figures[state.metric.key];
  const layout = chartLayout(figure, state);
  const ends = layout.xaxis.range.map((end) => 10 ** end);
  const traces = figure.data.map((trace) => dressed(trace.meta.kind === "base" ? { ...trace, x: ends } : trace, state));
  const config = { displaylogo: false, responsive: true, doubleClick: "reset", modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };
  return Plotly.react("chart", traces, layout, config);
}

function drawLegend(state, onToggle) {
  const traces = state.view.figures[state.metric.key].data;
  const shown = new Set(traces.map((trace) => trace.meta.family));
  const items = data.families.filter((family) => shown.has(family.name)).map((family) => {
    const glyph = make("span", { class: "glyph", "aria-hidden": "true" }, family.glyph);
    glyph.style.color = state.dark ? family.dark : family.light;
    const button = make("button", { type: "button", "aria-pressed": String(!state.hidden.has(family.name)), title: "show or hide" });
    button.append(glyph, ` ${family.name}`);
    button.addEventListener("click", () => onToggle(family.name));
    return button;
  });
  const lines = [["front", "━", "Pareto front"], ["base", "╌", "base"]];
  const drawn = lines.filter(([kind]) => traces.some((trace) => trace.meta.kind === kind));
  const keys = drawn.map(([name, sign, text]) => {
    const mark = make("span", { "aria-hidden": "true" }, `${sign} `);
    mark.style.color = colour(name);
    const key = make("span", { class: "key" });
    key.append(mark, text);
    return key;
  });
  const note = make("span", { class: "key" }, "filled: SuperLoRA, open: other methods");
  byId("legend").replaceChildren(...items, ...keys, note);
}
