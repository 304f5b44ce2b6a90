// The plot that explains the choice: reward against lambda, one line per candidate.

/** Draws into `host`; returns {redraw, move}: `move(lambda)` only moves the rule. */
function lambdaPlot(host, view) {
  const box = el("div", { class: "panel" });
  host.append(box);
  let move = () => {};
  const redraw = atWidth(box, (width) => {
    const drawn = drawLambda(view, width);
    box.replaceChildren(drawn.svg);
    move = drawn.move;
    move(view.lambda());
  });
  return { redraw, move: (lambda) => move(lambda) };
}

function drawLambda(view, width) {
  const { candidates, model, most } = view, name = view.name(), height = Math.max(240, Math.min(360, width * 0.62));
  const at0 = { ...view.lambdas(), [name]: 0 };
  const steps = (model.combine?.kind ?? "sum") === "sum" ? [0, most] : Array.from({ length: 65 }, (_, index) => (most * index) / 64);
  const rewards = steps.map((lambda) => candidates.map((one) => compose(one, { ...at0, [name]: lambda }, model).reward));
  const [low, high] = extent(visibleRange(rewards), 0.06);
  const { svg, at, inner } = frame(width, height, { from: 0, to: most, label: `lambda of ${name} (reward units per logit)` }, { from: low, to: high, label: "reward" }, `Reward of each candidate against lambda of ${name}`);
  const clip = svgEl("clipPath", { id: "inside" }, svgEl("rect", { x: inner.left, y: inner.top, width: inner.right - inner.left, height: inner.bottom - inner.top }));
  const lines = svgEl("g", { "clip-path": "url(#inside)" });
  const found = flips(candidates, view.lambdas(), model, name, most);
  const chosen = new Set([best(rewards[0]), ...found.map((flip) => flip.to)]);
  const first = best(rewards[0]);
  const order = candidates.map((_, index) => index).sort((a, b) => chosen.has(a) - chosen.has(b));
  for (const index of order) {
    const look = index === first ? "base" : chosen.has(index) ? "now" : "other";
    lines.append(svgEl("path", { class: `line ${look}`, d: path(steps.map((lambda, step) => [at.x(lambda), at.y(rewards[step][index])])) },
      svgEl("title", {}, `#${index + 1}`)));
  }
  svg.append(clip, lines);
  labelEnds(svg, view, rewards, order, chosen, at, inner);
  for (const flip of found) {
    const reward = compose(candidates[flip.to], { ...at0, [name]: flip.at }, model).reward;
    svg.append(svgEl("circle", { class: "flip", cx: at.x(flip.at), cy: at.y(reward), r: 4.5 },
      svgEl("title", {}, `at lambda ${fmt(flip.at)} the choice goes from #${flip.from + 1} to #${flip.to + 1}`)));
  }
  const rule = svgEl("path", { class: "now-rule" }), knob = svgEl("circle", { class: "knob", r: 7 });
  const label = svgEl("text", { class: "flip-label" });
  svg.append(rule, label, knob);
  drag(svg, (px) => view.set(Math.max(0, Math.min(most, ((px - inner.left) / (inner.right - inner.left)) * most))));
  const moveTo = (lambda) => {
    const px = at.x(Math.min(lambda, most));
    rule.setAttribute("d", `M${px} ${inner.top}V${inner.bottom}`);
    knob.setAttribute("cx", px);
    knob.setAttribute("cy", inner.bottom);
    const near = found.slice().sort((a, b) => Math.abs(a.at - lambda) - Math.abs(b.at - lambda))[0];
    label.textContent = near ? `${fmt(near.at, 2)}: #${near.from + 1} → #${near.to + 1}` : "";
    if (near) {
      const right = at.x(near.at) > (inner.left + inner.right) / 2;
      label.setAttribute("x", at.x(near.at) + (right ? -9 : 9));
      label.setAttribute("y", at.y(compose(candidates[near.to], { ...at0, [name]: near.at }, model).reward) - 9);
      label.setAttribute("text-anchor", right ? "end" : "start");
    }
  };
  return { svg, move: moveTo };
}

/** The rewards that decide: with many candidates, the lower ones may leave the plot below. */
function visibleRange(rewards) {
  const all = rewards.flat();
  if (rewards[0].length <= 8) return all;
  const tops = rewards.map((column) => column.slice().sort((a, b) => b - a));
  return tops.flatMap((column) => column.slice(0, Math.ceil(column.length * 0.6)));
}

/** The names of the lines at the right end, as far as they do not cover each other. */
function labelEnds(svg, view, rewards, order, chosen, at, inner) {
  const taken = [];
  for (const index of order.slice().reverse()) {
    const y = at.y(rewards.at(-1)[index]);
    const free = y > inner.top && y < inner.bottom && taken.every((other) => Math.abs(other - y) >= 12);
    if (!free || (!chosen.has(index) && view.candidates.length > 8)) continue;
    taken.push(y);
    svg.append(svgEl("text", { class: "end", x: inner.right - 3, y: y - 4, "text-anchor": "end" }, `#${index + 1}`));
  }
}

function drag(svg, set) {
  const to = (event) => set(event.clientX - svg.getBoundingClientRect().left);
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); to(event); });
  svg.addEventListener("pointermove", (event) => { if (svg.hasPointerCapture(event.pointerId)) to(event); });
}
