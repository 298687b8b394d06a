// "Best under a budget": of each family the setting with the best score that has no more parameters.

function bestPerFamily(view, metric, budget) {
  const better = (a, b) => (metric.higher_is_better ? a > b : a < b);
  const best = new Map();
  view.settings.forEach((setting, number) => {
    const score = setting.scores[metric.key];
    if (!score || setting.parameters > budget) return;
    const known = best.get(setting.family);
    if (!known || better(score.mean, known.scores[metric.key].mean)) best.set(setting.family, { ...setting, number });
  });
  const mean = (setting) => setting.scores[metric.key].mean;
  return [...best.values()].sort((a, b) => (better(mean(a), mean(b)) ? -1 : better(mean(b), mean(a)) ? 1 : 0));
}

function drawBest(state, onOpen) {
  const found = bestPerFamily(state.view, state.metric, state.budget);
  const place = byId("best");
  if (!found.length) {
    const fewest = Math.min(...state.view.settings.map((setting) => setting.parameters));
    place.replaceChildren(make("p", {}, `No setting has so few parameters and this score; the smallest has ${count(fewest)}.`));
    return;
  }
  const body = make("tbody");
  for (const setting of found) {
    const row = make("tr", { "data-family": setting.family });
    const name = make("td");
    const button = make("button", { type: "button" }, setting.name);
    button.addEventListener("click", () => onOpen(setting));
    const small = make("small", {}, ` ${setting.family}, ${count(setting.parameters)} parameters`);
    small.prepend(familyGlyph(setting.family));
    name.append(button, small);
    row.append(name, make("td", { class: "number" }, setting.scores[state.metric.key].mean.toFixed(state.metric.digits)));
    body.append(row);
  }
  const table = make("table");
  table.append(make("caption", { class: "hidden" }, `Best ${state.metric.short} of each family with at most ${state.budget} parameters`), body);
  place.replaceChildren(table);
}

// The slider runs over the logarithm, from the fewest to the most parameters of the view.
function budgetEnds(view) {
  const counts = view.settings.map((setting) => setting.parameters);
  return [Math.log(Math.min(...counts)), Math.log(Math.max(...counts))];
}

function sliderToBudget(view, value) {
  const [low, high] = budgetEnds(view);
  return Math.round(Math.exp(low + (value / 1000) * (high - low)));
}

function budgetToSlider(view, budget) {
  const [low, high] = budgetEnds(view);
  return high > low ? (1000 * (Math.log(budget) - low)) / (high - low) : 1000;
}

function roundBudget(view) {
  const [low, high] = budgetEnds(view);
  return 10 ** Math.max(Math.ceil(low / Math.LN10), Math.round((low + high) / 2 / Math.LN10));
}
