// The state of the page, and who redraws what. All text of runs goes in as text, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const state = {
  view: data.views[0], metric: null, log: false, published: data.published, hidden: new Set(), budget: 1000,
  filter: "", sort: { key: "parameters", descending: false }, dark: false,
};

function byId(id) {
  return document.getElementById(id);
}

function make(tag, attributes = {}, text = null) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== "") element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
}

function count(value) {
  return value == null ? "–" : value.toLocaleString("en");
}

function scoreText(score, metric) {
  if (!score) return "–";
  return score.mean.toFixed(metric.digits) + (score.error === null ? "" : ` ± ${score.error.toFixed(metric.digits)}`);
}

function familyGlyph(name) {
  const family = data.families.find((item) => item.name === name);
  const glyph = make("span", { class: "glyph", "aria-hidden": "true" }, family ? family.glyph : "");
  if (family) glyph.style.color = state.dark ? family.dark : family.light;
  return glyph;
}

function openRow(row) {
  openPanel(row, state);
}

function toggleFamily(name) {
  if (!state.hidden.delete(name)) state.hidden.add(name);
  redrawChart();
  const button = [...document.querySelectorAll("#legend button")].find((item) => item.textContent.endsWith(` ${name}`));
  button?.focus();
}

function redrawChart() {
  drawChart(state);
  drawLegend(state, toggleFamily);
}

function redrawTable() {
  drawTable(state, openRow, (key) => {
    state.sort = { key, descending: state.sort.key === key && !state.sort.descending };
    redrawTable();
    document.querySelector(`#table thead [data-key="${key}"]`).focus();
  });
}

function redraw() {
  if (!state.metric) return redrawTable();
  redrawChart();
  drawBest(state, openRow);
  redrawTable();
}

function chooseMetric(key) {
  state.metric = state.view.metrics.find((metric) => metric.key === key) ?? state.view.metrics[0] ?? null;
  if (!state.metric) return;
  const figure = state.view.figures[state.metric.key];
  state.log = figure.log;
  byId("log").checked = figure.log;
  byId("log").disabled = !figure.canLog;
  const canPublish = state.metric.key === "is_distance";
  byId("published").disabled = !canPublish;
  byId("published").parentElement.title = canPublish ? "the paper's thirteen, on another base and data" : "published is the IS distance only";
}

function chooseView(place) {
  state.view = data.views[place];
  const options = state.view.metrics.map((metric) => make("option", { value: metric.key }, `${metric.label} ${metric.higher_is_better ? "↑" : "↓"}`));
  byId("metric").replaceChildren(...options);
  chooseMetric(state.metric?.key ?? data.score);
  if (state.metric) {
    byId("metric").value = state.metric.key;
    setBudget(roundBudget(state.view));
  }
  byId("caption").textContent = `Measured by: ${state.view.protocol}.`;
  const lines = [
    "Points are means over seeds. Bars are the sample standard deviation over seeds; where there is one seed, the standard error of the score itself.",
    "The line is the Pareto front: no other setting, and no untrained base, is better with as few parameters. It is a stair: between two of its settings one has the smaller one's score.",
    ...state.view.notes,
    ...(Object.keys(state.view.shared).length ? [`All settings share: ${Object.entries(state.view.shared).map((pair) => pair.join(": ")).join("; ")}.`] : []),
  ];
  byId("about").replaceChildren(...lines.map((line) => make("p", {}, line)));
}

function setBudget(value) {
  if (!(value >= 1)) return;
  state.budget = value;
  byId("budget").value = value;
  byId("slider").value = budgetToSlider(state.view, value);
  byId("slider").setAttribute("aria-valuetext", `${count(value)} parameters`);
}

function setTheme(dark) {
  state.dark = dark;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  byId("theme").setAttribute("aria-pressed", String(dark));
}

function start() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  setTheme(system.matches);
  system.addEventListener("change", () => { setTheme(system.matches); redraw(); });
  byId("theme").addEventListener("click", () => { setTheme(!state.dark); redraw(); });
  byId("view").append(...data.views.map((view, place) => make("option", { value: String(place) }, view.protocol)));
  byId("view-label").hidden = data.views.length < 2;
  byId("view").addEventListener("change", (event) => { chooseView(Number(event.target.value)); redraw(); });
  byId("metric").addEventListener("change", (event) => { chooseMetric(event.target.value); redraw(); });
  byId("log").addEventListener("change", (event) => { state.log = event.target.checked; redrawChart(); });
  byId("published").checked = state.published;
  byId("published").addEventListener("change", (event) => { state.published = event.target.checked; redrawChart(); });
  byId("filter").addEventListener("input", (event) => { state.filter = event.target.value; redrawTable(); });
  const budgeted = (value) => { setBudget(value); if (state.metric) { drawBest(state, openRow); drawChart(state); } };
  byId("budget").addEventListener("input", (event) => budgeted(event.target.valueAsNumber));
  byId("slider").addEventListener("input", (event) => budgeted(sliderToBudget(state.view, Number(event.target.value))));
  byId("close").addEventListener("click", () => byId("panel").close());
  byId("panel").addEventListener("click", (event) => { if (event.target === byId("panel")) byId("panel").close(); });
  chooseView(0);
  redraw();
  if (!state.metric) return;
  byId("chart").on("plotly_click", (event) => {
    const number = event.points[0].customdata;
    if (Number.isInteger(number)) openRow({ ...state.view.settings[number], why: statusOf(state.view.settings[number]) });
  });
}

start();
