// The plots of every page: lines, intervals, histograms, points. They are drawn at the width of
// their figure, so that text keeps its size on a phone, and every figure has its numbers as a table.

const PAD = { left: 52, right: 14, top: 24, bottom: 40 };

/** Round numbers from `low` to `high`, both inside. */
function ticks(low, high, most = 6) {
  const span = high - low || 1, size = 10 ** Math.floor(Math.log10(span));
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10].map((factor) => factor * size).find((one) => span / one <= most);
  const found = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-9; place += 1)
    found.push(Number((place * step).toPrecision(12)));
  return found;
}

function extent(values, share = 0.04) {
  const known = values.filter((value) => Number.isFinite(value));
  let low = Infinity, high = -Infinity;
  for (const value of known) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low > high) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * share;
  return [low - room, high + room];
}

/** Axes with a left and a bottom spine. `x` and `y` are {from, to, label, ticks, log, names}. */
function frame(width, height, x, y, title, left = PAD.left) {
  const inner = { left, right: width - PAD.right, top: PAD.top, bottom: height - PAD.bottom };
  const on = (axis, low, high) => {
    const f = axis.log ? Math.log2 : (value) => value;
    const from = f(axis.from), to = f(axis.to);
    return (value) => low + ((f(value) - from) / (to - from || 1)) * (high - low);
  };
  const at = { x: on(x, inner.left, inner.right), y: on(y, inner.bottom, inner.top) };
  const svg = svgEl("svg", { width, height, role: "img", "aria-label": title });
  const marks = x.ticks ?? ticks(x.from, x.to, Math.max(2, Math.floor((width - left) / 70)));
  for (const value of y.ticks ?? ticks(y.from, y.to, Math.max(2, Math.floor(height / 45)))) {
    svg.append(
      svgEl("path", { class: "grid", d: `M${inner.left} ${at.y(value)}H${inner.right}` }),
      svgEl("text", { x: inner.left - 6, y: at.y(value) + 4, "text-anchor": "end" }, y.names?.[value] ?? short(value)),
    );
  }
  for (const value of marks) {
    svg.append(
      svgEl("path", { class: "axis", d: `M${at.x(value)} ${inner.bottom}v4` }),
      svgEl("text", { x: at.x(value), y: inner.bottom + 17, "text-anchor": "middle" }, short(value)),
    );
  }
  svg.append(svgEl("path", { class: "axis", d: `M${inner.left} ${inner.top}V${inner.bottom}H${inner.right}` }));
  const middle = (inner.left + inner.right) / 2;
  svg.append(svgEl("text", { class: "label", x: middle, y: height - 6, "text-anchor": "middle" }, x.label ?? ""));
  if (y.label) {
    const rotated = `rotate(-90) translate(${-(inner.top + inner.bottom) / 2} 13)`;
    svg.append(svgEl("text", { class: "label", transform: rotated, "text-anchor": "middle" }, y.label));
  }
  return { svg, at, inner };
}

function legend(entries) {
  return el("ul", { class: "legend" }, entries.map(({ name, look }) =>
    el("li", {}, svgEl("svg", { width: 26, height: 10, "aria-hidden": "true" },
      svgEl("path", { class: `line ${look}`, d: "M1 5H25" })), name)));
}

/** The numbers of a figure, behind a summary: for readers who cannot see or hover it. */
function numbers(head, rows) {
  return el("details", { class: "numbers" }, el("summary", {}, "numbers"),
    el("div", { class: "scroll", tabindex: "0" }, el("table", {},
      el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((value) =>
        el("td", {}, typeof value === "number" ? short(value) : String(value ?? "–")))))))));
}

function path(points) {
  return points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** Panels of lines beside each other where there is room. */
function linesPlot(host, spec) {
  const looks = new Map();
  for (const panel of spec.panels) for (const line of panel.lines) looks.set(line.name, line.look);
  host.append(legend([...looks].map(([name, look]) => ({ name, look }))));
  const row = el("div", { class: "panels" });
  host.append(row);
  const shared = spec.panels.flatMap((panel) => panel.lines.flatMap((line) => [...line.y, ...(line.low ?? []), ...(line.high ?? [])]));
  for (const panel of spec.panels) {
    const box = el("div", { class: "panel" });
    row.append(box);
    atWidth(box, (width) => box.replaceChildren(drawLines(spec, panel, shared, width)));
  }
  const rows = spec.panels.flatMap((panel) => panel.lines.flatMap((line) =>
    line.x.map((x, index) => [panel.title, line.name, x, line.y[index], line.low?.[index], line.high?.[index]])));
  host.append(numbers(["panel", "line", spec.x.label, "value", "low", "high"], rows));
}

function drawLines(spec, panel, shared, width) {
  const own = panel.lines.flatMap((line) => [...line.y, ...(line.low ?? []), ...(line.high ?? [])]);
  const [low, high] = extent(spec.free ? own : shared);
  const y = { from: spec.y?.from ?? low, to: spec.y?.to ?? high, label: spec.y?.label };
  const xs = panel.lines.flatMap((line) => line.x);
  const [left, right] = spec.x.log ? [Math.min(...xs), Math.max(...xs)] : extent(xs, 0.02);
  const x = { from: left, to: right, label: spec.x.label, log: spec.x.log, ticks: spec.x.ticks };
  const { svg, at, inner } = frame(width, 260, x, y, `${panel.title ?? ""} ${spec.y?.label ?? ""} by ${spec.x.label}`);
  if (panel.title) svg.append(svgEl("text", { class: "title", x: inner.left, y: inner.top - 10 }, panel.title));
  for (const rule of spec.rules ?? []) {
    const d = rule.x === undefined ? `M${inner.left} ${at.y(rule.y)}H${inner.right}` : `M${at.x(rule.x)} ${inner.top}V${inner.bottom}`;
    svg.append(svgEl("path", { class: "rule", d }, svgEl("title", {}, rule.label ?? "")));
  }
  for (const line of panel.lines) {
    const band = line.x.map((value, index) => [at.x(value), line.low?.[index], line.high?.[index]]).filter((one) => Number.isFinite(one[1]) && Number.isFinite(one[2]));
    if (band.length > 1) {
      const up = band.map(([px, , top]) => [px, at.y(top)]), down = band.map(([px, bottom]) => [px, at.y(bottom)]).reverse();
      svg.append(svgEl("path", { class: `band ${line.look}`, d: path([...up, ...down]) + "Z" }));
    }
  }
  for (const line of panel.lines) {
    const points = line.x.map((value, index) => [at.x(value), at.y(line.y[index])]);
    svg.append(svgEl("path", { class: `line ${line.look}`, d: path(points) }));
    points.forEach(([px, py], index) => svg.append(
      svgEl("circle", { class: `dot ${line.look}`, cx: px, cy: py, r: 2.6 },
        svgEl("title", {}, `${line.name}, ${spec.x.label} ${short(line.x[index])}: ${short(line.y[index])}`))));
  }
  return svg;
}

/** Values with their intervals, one row per name. */
function intervalsPlot(host, spec) {
  host.append(legend(spec.series));
  const box = el("div", { class: "panel" });
  host.append(box);
  const rows = spec.series.flatMap((series) => series.values.map((one) => [one.name, series.name, one.value, one.low, one.high]));
  const longest = Math.max(...spec.names.map((name) => name.length));
  atWidth(box, (width) => {
    const left = Math.min(width * 0.42, 12 + longest * 6.6), height = 60 + 34 * spec.names.length;
    const y = { from: spec.names.length - 0.5, to: -0.5, ticks: spec.names.map((_, index) => index), names: spec.names };
    const [low, high] = extent(rows.flatMap((row) => row.slice(2)));
    const { svg, at, inner } = frame(width, height, { from: Math.min(low, spec.rule ?? low), to: high, label: spec.x.label }, y, spec.x.label, left);
    if (spec.rule !== undefined) svg.append(svgEl("path", { class: "rule", d: `M${at.x(spec.rule)} ${inner.top}V${inner.bottom}` }));
    spec.series.forEach((series, number) => {
      for (const one of series.values) {
        const py = at.y(spec.names.indexOf(one.name)) + (number - (spec.series.length - 1) / 2) * 10;
        if (Number.isFinite(one.low) && Number.isFinite(one.high))
          svg.append(svgEl("path", { class: `line ${series.look}`, d: `M${at.x(one.low)} ${py}H${at.x(one.high)}` }));
        svg.append(svgEl("circle", { class: `dot ${series.look}`, cx: at.x(one.value), cy: py, r: 4 },
          svgEl("title", {}, `${one.name}, ${series.name}: ${short(one.value)}`)));
      }
    });
    box.replaceChildren(svg);
  });
  host.append(numbers(["name", "series", "value", "low", "high"], rows));
}

/** Overlaid histograms, one panel per name. */
function histogramPlot(host, spec) {
  const looks = new Map(spec.panels.flatMap((panel) => panel.series.map((one) => [one.name, one.look])));
  host.append(legend([...looks].map(([name, look]) => ({ name, look }))));
  const row = el("div", { class: "panels" });
  host.append(row);
  for (const panel of spec.panels) {
    const box = el("div", { class: "panel" });
    row.append(box);
    atWidth(box, (width) => {
      const most = Math.max(1, ...panel.series.flatMap((one) => one.counts));
      const { svg, at, inner } = frame(width, 170, { from: spec.edges[0], to: spec.edges.at(-1), label: spec.x.label },
        { from: 0, to: most * 1.05, label: "rows" }, panel.title);
      svg.append(svgEl("text", { class: "title", x: inner.left, y: inner.top - 10 }, panel.title));
      panel.series.forEach((one) => one.counts.forEach((number, index) => {
        if (!number) return;
        const left = at.x(spec.edges[index]), right = at.x(spec.edges[index + 1]);
        svg.append(svgEl("rect", { class: `bar ${one.look}`, x: left, width: Math.max(1, right - left - 1), y: at.y(number), height: inner.bottom - at.y(number) },
          svgEl("title", {}, `${one.name}, ${short(spec.edges[index])} to ${short(spec.edges[index + 1])}: ${number}`)));
      }));
      box.replaceChildren(svg);
    });
  }
  host.append(numbers(["panel", "series", "from", "to", "rows"], spec.panels.flatMap((panel) => panel.series.flatMap((one) =>
    one.counts.map((number, index) => [panel.title, one.name, spec.edges[index], spec.edges[index + 1], number]).filter((line) => line[4])))));
}

/** Points against the diagonal; the area of a point is its weight. */
function pointsPlot(host, spec) {
  const box = el("div", { class: "panel square" });
  host.append(box);
  atWidth(box, (width) => {
    const side = Math.min(width, 360);
    const { svg, at } = frame(side, side, { from: -0.03, to: 1.03, label: spec.x.label }, { from: -0.03, to: 1.03, label: spec.y.label }, spec.y.label);
    svg.append(svgEl("path", { class: "rule", d: `M${at.x(0)} ${at.y(0)}L${at.x(1)} ${at.y(1)}` }));
    for (const one of spec.points)
      svg.append(svgEl("circle", { class: "bubble now", cx: at.x(one.x), cy: at.y(one.y), r: 2 + Math.sqrt(one.weight) * 0.9 },
        svgEl("title", {}, `${short(one.x)}, ${short(one.y)}: ${count(one.weight, "row")}`)));
    box.replaceChildren(svg);
  });
  host.append(numbers([spec.x.label, spec.y.label, "rows"], spec.points.map((one) => [one.x, one.y, one.weight])));
}

const KINDS = { lines: linesPlot, intervals: intervalsPlot, histogram: histogramPlot, points: pointsPlot };

/** Draws every figure of the page that names a plot. */
function drawFigures(plots) {
  for (const host of document.querySelectorAll("[data-plot]")) {
    const spec = plots[host.dataset.plot], inside = el("div", {});
    if (!spec) continue;
    host.prepend(inside);
    KINDS[spec.kind](inside, spec);
  }
}
