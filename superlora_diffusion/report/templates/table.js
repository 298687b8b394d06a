// The table: a row a setting, and a row for each run that has no place in the chart, with the reason.

function tableColumns(view) {
  const targets = new Set(view.settings.map((setting) => setting.target));
  return [
    { key: "name", label: "setting", text: (row) => row.name },
    { key: "family", label: "family", class: "wide", text: (row) => row.family },
    ...(targets.size > 1 ? [{ key: "target", label: "data", text: (row) => row.target }] : []),
    { key: "parameters", label: "parameters", number: (row) => row.parameters, text: (row) => count(row.parameters) },
    ...view.metrics.map((metric) => ({
      key: metric.key,
      label: `${metric.short} ${metric.higher_is_better ? "↑" : "↓"}`,
      number: (row) => row.scores?.[metric.key]?.mean,
      text: (row) => scoreText(row.scores?.[metric.key], metric),
    })),
    { key: "seeds", label: "seeds", number: (row) => row.seeds, text: (row) => String(row.seeds ?? "") },
    { key: "learningRate", label: "learning rate", number: (row) => parseFloat(row.learningRate), text: (row) => row.learningRate ?? "" },
  ];
}

function tableRows(view) {
  const settings = view.settings.map((setting, number) => ({ ...setting, number, why: statusOf(setting) }));
  const others = view.leftOut.filter((run) => !settings.some((setting) => setting.runs.includes(run.runs[0])));
  return [...settings, ...others];
}

function statusOf(setting) {
  const states = new Set(setting.runs.map((place) => data.runs[place].status));
  return [...states].join(", ");
}

function compareRows(column, descending) {
  const sign = descending ? -1 : 1;
  return (a, b) => {
    if (!column.number) return sign * column.text(a).localeCompare(column.text(b), "en", { numeric: true });
    const [x, y] = [column.number(a), column.number(b)].map((value) => (Number.isFinite(value) ? value : null));
    if (x === null || y === null) return (x === null) - (y === null); // what has no value stands last either way
    return sign * (x - y);
  };
}

function matches(row, columns, words) {
  const texts = columns.filter((column) => !column.number).map((column) => column.text(row));
  const text = [...texts, row.why].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

function drawTable(state, onOpen, onSort) {
  const columns = tableColumns(state.view);
  const sorted = columns.find((column) => column.key === state.sort.key) ?? columns[0];
  const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = tableRows(state.view);
  const shown = rows.filter((row) => matches(row, columns, words)).sort(compareRows(sorted, state.sort.descending));
  const [head, body] = [document.querySelector("#table thead"), document.querySelector("#table tbody")];
  head.replaceChildren(headRow(columns, sorted, state.sort.descending, onSort));
  body.replaceChildren(...shown.map((row) => bodyRow(row, columns, onOpen)));
  byId("count").textContent = `${shown.length} of ${rows.length} rows`;
}

function classOf(column) {
  return column.number ? "number" : (column.class ?? "");
}

function headRow(columns, sorted, descending, onSort) {
  const row = make("tr");
  for (const column of columns) {
    const active = column === sorted;
    const order = active ? (descending ? "descending" : "ascending") : "none";
    const cell = make("th", { scope: "col", "aria-sort": order, class: classOf(column) });
    const arrow = active ? (descending ? " ▾" : " ▴") : "";
    const button = make("button", { type: "button", "data-key": column.key }, column.label + arrow);
    button.addEventListener("click", () => onSort(column.key));
    cell.append(button);
    row.append(cell);
  }
  return row;
}

function bodyRow(row, columns, onOpen) {
  const line = make("tr", { tabindex: "0", "aria-label": `${row.name}: open samples, curves and command` });
  for (const column of columns) {
    const cell = make("td", { class: classOf(column) });
    if (column.key !== "name") {
      cell.textContent = column.text(row);
    } else {
      cell.append(familyGlyph(row.family), " ", make("span", { class: "name" }, row.name));
      if (row.why !== "scored") cell.append(make("small", {}, row.why));
    }
    line.append(cell);
  }
  line.addEventListener("click", () => onOpen(row));
  line.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    onOpen(row);
  });
  return line;
}
