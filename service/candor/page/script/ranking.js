// The ranking: a row per candidate that moves when the order changes, and marks its moves.

const COLUMNS = ["rank", "candidate", "R", "S", "penalty", "reward"];

function ranking(view) {
  const single = Object.keys(view.candidates[0].probes).length === 1;
  const rows = view.candidates.map((one, index) => rankedRow(view, one, index));
  const body = el("tbody", {}, rows.map((row) => row.node));
  const head = el("tr", {}, COLUMNS.map((name) => el("th", { scope: "col", class: `c-${name}` }, name)));
  const table = el("table", { class: "ranking" },
    el("caption", { class: "hidden" }, "The candidates by reward; a row's button selects it"), el("thead", {}, head), body);
  let order = view.candidates.map((_, index) => index);
  const base = places(view.candidates.map((one) => one.base_reward));
  return {
    table,
    rows,
    /** Shows these outcomes of `compose`, one per candidate, in the order of their rewards. */
    show(composed) {
      const rewards = composed.map((one) => one.reward), now = places(rewards), top = Math.max(...rewards);
      const [low, high] = extent([...view.candidates.map((one) => one.base_reward), ...rewards], 0.02);
      if (!single) head.children[3].title = `of ${view.name()}`;
      rows.forEach((row, index) => row.show(composed[index], { now: now[index], base: base[index], top, low, high }));
      const next = order.slice().sort((a, b) => now[a] - now[b]);
      if (next.some((index, place) => index !== order[place])) { order = next; reorder(body, order.map((index) => rows[index].node)); }
    },
    select(index) { rows.forEach((row, other) => row.select(other === index)); },
  };
}

function rankedRow(view, one, index) {
  const cell = (name, ...children) => el("td", { class: `c-${name}`, "data-label": name }, ...children);
  const place = el("span", { class: "place" }), moved = el("span", { class: "moved" });
  const tag = el("span", { class: "tags" });
  const pick = el("button", { type: "button", class: "pick", "aria-pressed": "false", on: { click: () => view.select(index) } },
    el("span", { class: "name" }, `#${index + 1}`), el("span", { class: "excerpt" }, excerpt(one.text)));
  const score = el("span", { class: "num" }), penalty = el("span", { class: "num" }), reward = el("span", { class: "num strong" }), behind = el("span", { class: "num behind" });
  const bar = el("div", { class: "dumbbell", "aria-hidden": "true" }, el("i", { class: "cost" }), el("i", { class: "from" }), el("i", { class: "to" }));
  const node = el("tr", {},
    cell("rank", place, moved), cell("candidate", pick, tag, bar),
    cell("R", el("span", { class: "num base" }, fmt(one.base_reward))), cell("S", score), cell("penalty", penalty),
    cell("reward", reward, behind));
  return {
    node,
    show(composed, scale) {
      const up = scale.base - scale.now, from = ((one.base_reward - scale.low) / (scale.high - scale.low)) * 100;
      const to = ((composed.reward - scale.low) / (scale.high - scale.low)) * 100;
      place.textContent = String(scale.now);
      moved.textContent = up > 0 ? `▲${up}` : up < 0 ? `▼${-up}` : "";
      moved.title = up ? `by R alone it is at place ${scale.base}` : "";
      node.classList.toggle("winner", scale.now === 1);
      node.classList.toggle("flipped", up !== 0);
      tag.replaceChildren(...tagsOf(one, scale, composed));
      score.textContent = signed(one.probes[view.name()]?.score);
      penalty.textContent = fmt(composed.penalty);
      reward.textContent = fmt(composed.reward);
      behind.textContent = scale.now === 1 ? "" : fmt(composed.reward - scale.top, 2);
      const [cost, start, end] = bar.children;
      cost.style.setProperty("left", `${Math.min(from, to)}%`);
      cost.style.setProperty("width", `${Math.abs(to - from)}%`);
      start.style.setProperty("left", `${from}%`);
      end.style.setProperty("left", `${to}%`);
    },
    select(on) { node.classList.toggle("selected", on); pick.setAttribute("aria-pressed", String(on)); },
  };
}

function tagsOf(one, scale, composed) {
  const tags = [];
  if (scale.now === 1) tags.push(el("b", { class: "tag now" }, "chosen"));
  if (scale.base === 1) tags.push(el("b", { class: "tag base" }, "R's choice"));
  if (one.truncated) tags.push(el("b", { class: "tag warn" }, "context cut"));
  if (one.screened) tags.push(el("b", { class: "tag warn" }, "screened"));
  if (composed.advantage) tags.push(el("span", { class: "tag" }, `advantage penalty ${fmt(composed.advantage)}`));
  for (const note of one.notes ?? []) tags.push(el("span", { class: "tag" }, note));
  return tags;
}

function excerpt(text, most = 220) {
  const flat = text.replace(/\s+/g, " ").trim();
  return flat.length > most ? flat.slice(0, most) + " …" : flat || "(empty)";
}

/** Puts rows into this order; they glide there unless the reader wants no motion. */
function reorder(body, nodes) {
  const before = new Map(nodes.map((node) => [node, node.getBoundingClientRect().top]));
  const focused = document.activeElement;
  body.append(...nodes);
  if (body.contains(focused)) focused.focus({ preventScroll: true });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const node of nodes) {
    const moved = before.get(node) - node.getBoundingClientRect().top;
    if (moved) node.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], { duration: 180, easing: "ease-out" });
  }
}
