// The panel of one setting: its samples beside real images, its curves, its command. A run at a time.

function openPanel(row, state) {
  byId("panel-title").textContent = row.name;
  const seeds = row.runs.map((place, index) => {
    const run = data.runs[place];
    const button = make("button", { type: "button" }, run.seed === null ? `run ${index + 1}` : `seed ${run.seed}`);
    button.addEventListener("click", () => showRun(row, index, state));
    return button;
  });
  byId("panel-seeds").replaceChildren(...seeds);
  byId("panel-seeds").hidden = seeds.length < 2;
  const panel = byId("panel");
  if (!panel.open) panel.showModal();
  showRun(row, 0, state);
}

function showRun(row, index, state) {
  const run = data.runs[row.runs[index]];
  [...byId("panel-seeds").children].forEach((button, place) => button.setAttribute("aria-pressed", String(place === index)));
  const scores = state.view.metrics.filter((metric) => row.scores?.[metric.key]).map((metric) => `${metric.short} ${scoreText(row.scores[metric.key], metric)}`);
  const facts = [row.family, row.parameters && `${count(row.parameters)} parameters`, ...scores, row.why !== "scored" && row.why];
  byId("panel-facts").textContent = facts.filter(Boolean).join(" · ");
  showPicture("grid", run.grid, `Samples of ${row.name}`);
  showPicture("real", data.real[run.real] ?? { uri: "", problem: "The data of this run is unknown." }, `Real images of ${row.target}`);
  byId("command").textContent = run.command || "not known";
  byId("copied").textContent = "";
  byId("copy").onclick = () => copyText(run.command);
  drawCurves(run, state);
  const tries = run.race.map(([rate, loss]) => `${rate} → ${loss.toFixed(5)}`).join(", ");
  byId("race").textContent = tries && `Learning rates tried in a short race, with their validation losses: ${tries}.`;
  byId("values").replaceChildren(...Object.entries(run.values).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function showPicture(id, picture, alt) {
  const image = byId(id);
  image.hidden = !picture.uri;
  image.alt = alt;
  if (picture.uri) image.src = picture.uri;
  else image.removeAttribute("src");
  byId(`${id}-problem`).textContent = picture.problem;
}

function drawCurves(run, state) {
  const place = byId("curves");
  const curve = (points, name, extra) => ({ x: points.map((p) => p[0]), y: points.map((p) => p[1]), name, hovertemplate: "step %{x}: %{y:.5f}", ...extra });
  const traces = [
    curve(run.training, "training", { mode: "lines", line: { color: colour("front"), width: 1.5 } }),
    curve(run.validation, "validation", { mode: "lines+markers", line: { color: colour("accent"), width: 2 } }),
  ].filter((trace) => trace.x.length);
  place.hidden = !traces.length;
  if (!traces.length) return Plotly.purge(place);
  const layout = themed({
    xaxis: { title: { text: "step" } },
    yaxis: { title: { text: "loss" } },
    margin: { l: 56, r: 12, t: 8, b: 44 },
    legend: { orientation: "h", x: 1, xanchor: "right", y: 1, yanchor: "top", bgcolor: "rgba(0,0,0,0)" },
    showlegend: true,
  });
  Plotly.react(place, traces, layout, { displayModeBar: false, responsive: true });
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    byId("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(byId("command")); // no clipboard for the page: ready for the user's own key
    byId("copied").textContent = "Marked; press Ctrl+C to copy.";
  }
}
