// Many prompts: a list that says where the choice flips, and histograms of R, S and reward over
// time whose bars give their rows.

const SLICES = 10;
const BINS = 24;

/** Every candidate of every group with its values under the page's lambdas. */
function flatRows(groups, page) {
  return groups.flatMap((group, at) => group.candidates.map((one) => ({ at, one, step: group.step ?? at,
    reward: compose(one, { ...Object.fromEntries(Object.entries(one.probes).map(([name, reading]) => [name, reading.lambda])), ...page.lambdas }, group.model ?? page.model).reward })));
}

function rowsView(host, page, open) {
  const groups = page.groups, rows = flatRows(groups, page);
  const out = el("div", { class: "rows-of-bar", "aria-live": "polite" });
  if (!rows.length) { host.replaceChildren(el("p", {}, "No rows yet. Score a conversation, or load a file of scored rows (JSONL of candor score).")); return; }
  const names = Object.keys(rows[0].one.probes);
  const penalised = names.filter((name) => (page.lambdas[name] ?? rows[0].one.probes[name].lambda) > 0), shown = penalised.length ? penalised : names;
  const signals = [["R", (row) => row.one.base_reward, "base"], ["reward", (row) => row.reward, "now"],
    ...[...shown, ...names.filter((name) => !shown.includes(name))].map((name) => [`S ${name}`, (row) => row.one.probes[name]?.score ?? NaN, "held"])];
  const panels = el("div", { class: "panels" }), others = el("div", { class: "panels" });
  signals.forEach(([title, value, look], index) => {
    const box = el("figure", { class: "panel" });
    (index < 2 + shown.length ? panels : others).append(box);
    overTime(box, { title, look, rows, value, show: (found, words) => listRows(out, found, words, open) });
  });
  const flipped = groups.filter((group) => group.candidates.length && choiceFlips(group, page)).length;
  host.replaceChildren(
    el("div", { class: "headline" }, el("p", { class: "figure" }, `${flipped} of ${groups.length}`), el("p", {}, el("b", {}, "prompts have another choice under the penalty than by R. "), `${count(rows.length, "candidate")} in ${count(groups.length, "prompt")}.`)),
    el("h2", {}, "Over time"),
    el("p", { class: "note" }, `Left to right: the rows in ${groups.some((group) => group.step !== undefined) ? "the order of their steps" : "the order of the file"}, in up to ${SLICES} parts of equal size. Each part is a histogram; press a bar to see its rows.`),
    panels, others.childElementCount ? el("details", { class: "more" }, el("summary", {}, `${count(others.childElementCount, "more probe")}, not in the reward`), others) : "", out);
}

function choiceFlips(group, page) {
  const model = group.model ?? page.model;
  const lambdas = (one) => ({ ...Object.fromEntries(Object.entries(one.probes).map(([name, reading]) => [name, reading.lambda])), ...page.lambdas });
  return best(group.candidates.map((one) => one.base_reward)) !== best(group.candidates.map((one) => compose(one, lambdas(one), model).reward));
}

/** Histograms side by side, one per part of the time; every bar is a button. */
function overTime(host, spec) {
  const sorted = spec.rows.filter((row) => Number.isFinite(spec.value(row))).sort((a, b) => a.step - b.step || a.at - b.at);
  const slices = Math.max(1, Math.min(SLICES, Math.floor(sorted.length / 8)));
  const [low, high] = extent(sorted.map(spec.value), 0.001), size = (high - low) / BINS;
  const cells = Array.from({ length: slices }, () => Array.from({ length: BINS }, () => []));
  sorted.forEach((row, place) => {
    const slice = Math.min(slices - 1, Math.floor((place * slices) / sorted.length));
    cells[slice][Math.min(BINS - 1, Math.floor((spec.value(row) - low) / size))].push(row);
  });
  const most = Math.max(...cells.flat().map((cell) => cell.length));
  const plot = el("div", {});
  host.append(el("figcaption", {}, el("b", {}, spec.title)), plot);
  atWidth(plot, (width) => {
    const { svg, at, inner } = frame(width, 240, { from: 0, to: slices, ticks: [] , label: slices > 1 ? "earlier → later" : "" }, { from: low, to: high, label: spec.title }, `${spec.title} over time`);
    svg.setAttribute("role", "group");
    cells.forEach((column, slice) => {
      const left = at.x(slice) + 3, room = at.x(slice + 1) - at.x(slice) - 6;
      column.forEach((cell, bin) => {
        if (!cell.length) return;
        const from = low + bin * size, words = `${spec.title} ${short(from)} to ${short(from + size)}${slices > 1 ? `, part ${slice + 1} of ${slices}` : ""}`;
        const bar = svgEl("rect", { class: `bar press ${spec.look}`, x: left, width: Math.max(2, (cell.length / most) * room), y: at.y(from + size) + 0.5, height: Math.max(2, at.y(from) - at.y(from + size) - 1),
          tabindex: "0", role: "button", "aria-label": `${words}: ${count(cell.length, "row")}` }, svgEl("title", {}, `${words}: ${count(cell.length, "row")}`));
        const press = () => { svg.querySelector(".pressed")?.classList.remove("pressed"); bar.classList.add("pressed"); spec.show(cell, words); };
        bar.addEventListener("click", press);
        bar.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); press(); } });
        svg.append(bar);
      });
      if (slice) svg.append(svgEl("path", { class: "grid", d: `M${at.x(slice)} ${inner.top}V${inner.bottom}` }));
    });
    plot.replaceChildren(svg);
  });
}

function listRows(host, found, words, open) {
  const most = 50;
  host.replaceChildren(el("h2", {}, `${words}: ${count(found.length, "row")}`),
    el("table", { class: "list" }, el("thead", {}, el("tr", {}, ["R", "S", "reward", "response"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, found.slice(0, most).map((row) => el("tr", {},
        el("td", { class: "num" }, fmt(row.one.base_reward, 2)), el("td", { class: "num" }, Object.values(row.one.probes).map((reading) => signed(reading.score, 2)).join(" ")),
        el("td", { class: "num" }, fmt(row.reward, 2)), el("td", {}, el("button", { type: "button", class: "pick", on: { click: () => open(row.at) } }, excerpt(row.one.text, 160))))))),
    found.length > most ? el("p", { class: "note" }, `The first ${most} are listed.`) : "");
  host.scrollIntoView({ block: "nearest" });
}

/** The list of prompts: each says whether its choice flips. */
function promptList(page, open) {
  const search = el("input", { type: "search", placeholder: "filter prompts", "aria-label": "filter prompts" });
  const only = el("input", { type: "checkbox" });
  const list = el("ol", { class: "prompts" });
  const items = page.groups.map((group, at) => {
    const button = el("button", { type: "button", class: "pick", on: { click: () => open(at) } });
    return { group, at, button, node: el("li", {}, button) };
  });
  const show = () => {
    for (const item of items) {
      const flip = item.group.candidates.length > 0 && choiceFlips(item.group, page);
      item.button.replaceChildren(el("span", { class: "excerpt" }, excerpt(titleOf(item.group), 110)), flip ? el("b", { class: "tag now" }, "flips") : "");
      item.button.setAttribute("aria-current", String(item.at === page.at));
      const text = titleOf(item.group).toLowerCase() + item.group.candidates.map((one) => one.text.toLowerCase()).join("\n");
      item.node.hidden = (only.checked && !flip) || !text.includes(search.value.toLowerCase());
    }
  };
  list.append(...items.map((item) => item.node));
  search.addEventListener("input", show);
  only.addEventListener("change", show);
  show();
  return { node: el("div", {}, el("div", { class: "bar" }, search, el("label", { class: "check" }, only, " flips only")), list), show };
}

function titleOf(group) {
  if (group.title) return group.title;
  const last = group.messages?.filter((message) => message.role === "user").at(-1);
  return last ? contentOf(last) : group.prompt ?? group.key ?? "(no context)";
}
