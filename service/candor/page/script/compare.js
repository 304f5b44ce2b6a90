// One conversation with its candidates: headline, strength, ranking, plot, tokens, and why.

/** Shows a group in `host`. `page` is the page's state: model, probes, lambdas, and `live` where a
 * server can be asked. A group is {key, messages | prompt, candidates, failed, call}. */
function comparison(host, group, page) {
  const candidates = group.candidates;
  if (!candidates.length) {
    host.replaceChildren(contextOf(group), failures(group) ?? el("p", {}, "No candidate has a score."));
    return;
  }
  const names = Object.keys(candidates[0].probes);
  const served = Object.fromEntries(names.map((name) => [name, candidates[0].probes[name].lambda]));
  let name = page.shown && names.includes(page.shown) ? page.shown : names.find((one) => served[one] > 0) ?? names[0];
  const view = {
    candidates, probes: page.probes, model: group.model ?? page.model,
    lambdas: () => ({ ...served, ...page.lambdas }),
    name: () => name,
    lambda: () => view.lambdas()[name] ?? 0,
    get most() { return name === undefined ? 1 : mostLambda(view, name); },
    set: (lambda, of = name) => { page.lambdas[of] = lambda; const other = of !== name; name = of; page.shown = of; later(other); },
    select: (index) => { selected = index; list.select(index); below(); },
  };
  let selected = best(candidates.map((one) => compose(one, view.lambdas(), view.model).reward));
  const headline = el("div", { class: "headline", role: "status" });
  const list = ranking(view), knobs = strengths(view);
  const plotHost = el("figure", { class: "lambda" }), tokensHost = el("section", { class: "tokens-of" }), whyHost = el("section", { class: "why" });
  const show = () => {
    const composed = candidates.map((one) => compose(one, view.lambdas(), view.model));
    list.show(composed);
    knobs.show();
    tell(headline, view, composed);
    whyHost.dispatchEvent(new CustomEvent("strength"));
  };
  let waiting = 0, redrawn = false, plot = null;
  const later = (other) => {
    redrawn ||= other;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => { show(); if (redrawn) plot?.redraw(); plot?.move(view.lambda()); redrawn = false; });
  };
  const below = () => {
    tokensOf(tokensHost, view, candidates[selected], selected, page);
    why(whyHost, view, group, selected, page);
  };
  host.replaceChildren(headline,
    el("div", { class: "two" }, el("section", {}, el("h2", {}, "Ranking"), el("div", { class: "ranking-box", tabindex: candidates.length > 12 ? "0" : null, role: "group", "aria-label": "ranking" }, list.table), name === undefined ? null : el("p", { class: "note" }, columnsText(view)), failures(group)),
      el("section", { class: "stays" }, el("h2", {}, "Reward against lambda"), knobs.node, plotHost)),
    tokensHost, whyHost);
  if (name !== undefined) {
    plot = lambdaPlot(plotHost, view);
    plotHost.append(el("figcaption", {}, "One line per candidate: orange is R's choice, blue are the choices of some lambda. Drag the rule, or use the slider. Dots: the choice flips."));
  }
  show();
  list.select(selected);
  below();
}

/** The headline: whether the penalty changes the choice, and what that costs. */
function tell(host, view, composed) {
  const { candidates } = view, byR = best(candidates.map((one) => one.base_reward)), now = best(composed.map((one) => one.reward));
  const name = view.name(), lambda = view.lambda(), unit = lambdaPerKappa(view.probes[name]);
  if (name === undefined) { host.replaceChildren(el("p", { class: "figure" }, `#${byR + 1}`), el("p", {}, "is R's choice. No probe is served, so there is nothing to penalise.")); return; }
  const found = flips(candidates, view.lambdas(), view.model, name, view.most);
  const strengthText = `lambda ${fmt(lambda, 2)}${unit ? ` (kappa ${fmt(lambda / unit, 1)})` : ""}`;
  const score = (index) => candidates[index].probes[name].score;
  const next = found.find((flip) => flip.at > lambda);
  const lines = now === byR
    ? [`At ${strengthText} the penalty leaves R's choice, #${byR + 1}. `, next ? `It flips to #${next.to + 1} at lambda ${fmt(next.at, 2)}.` : `No larger lambda up to ${fmt(view.most, 1)} changes it.`]
    : [`The penalty changes the choice: from ${named(candidates, byR)} to ${named(candidates, now)}. `,
      `At ${strengthText}, R falls by ${fmt(candidates[byR].base_reward - candidates[now].base_reward, 2)}, S of ${name} moves from ${signed(score(byR), 2)} to ${signed(score(now), 2)}.`];
  const figure = now === byR ? el("p", { class: "figure" }, `#${byR + 1}`) : el("p", { class: "figure changed" }, `#${byR + 1} → #${now + 1}`);
  host.replaceChildren(figure, el("p", {}, el("b", {}, lines[0]), lines[1]));
}

/** A candidate by its number and its words. */
function named(candidates, index) { return `#${index + 1} “${excerpt(candidates[index].text, 60).replace(/\.$/, "")}”`; }

/** What the columns of the ranking are, in a sentence. */
function columnsText(view) {
  const name = view.name(), trait = view.probes[name]?.trait;
  return `R: the score of the reward model. S: how far a probe sees the trait ${name}${trait ? ` (“${trait}”)` : ""}. Reward: R minus the penalty, lambda times the bounded S.`;
}

function contextOf(group) {
  if (group.prompt !== undefined && group.prompt !== null) return el("pre", { class: "context", tabindex: "0" }, group.prompt);
  return el("div", { class: "context" }, (group.messages ?? []).map((message) =>
    el("div", { class: "turn" }, el("span", { class: "role" }, message.role), el("div", { class: "said" }, contentOf(message)))));
}

function contentOf(message) {
  const text = Array.isArray(message.content) ? message.content.map((part) => part.text).join("") : message.content ?? "";
  const calls = message.tool_calls ? "\n" + JSON.stringify(message.tool_calls, null, 1) : "";
  return text + calls;
}

function failures(group) {
  if (!group.failed?.length) return null;
  return el("details", { class: "failed" }, el("summary", {}, count(group.failed.length, "response") + " could not be scored"),
    el("ul", {}, group.failed.map((one) => el("li", {}, `#${one.place + 1}: ${one.message}`))));
}

/** The heat maps of the selected candidate, one per probe; or why there are none. */
function tokensOf(host, view, candidate, index, page) {
  const name = view.name(), probe = view.probes[name];
  const parts = [el("h2", {}, `Tokens of #${index + 1}`)];
  if (!candidate.tokens || !probe || !heatScale(probe)) {
    parts.push(el("div", { class: "whole" }, candidate.text || "(empty)"));
    parts.push(el("p", { class: "note" }, candidate.tokens ? "The probe's card is not known, so there is no scale for its token logits."
      : candidate.notokens ?? "No token logits are stored with these scores: candor score --tokens stores them. Or load the row into the inspector of a running server."));
    host.replaceChildren(...parts);
    return;
  }
  const chooser = el("div", { class: "bar" });
  const names = Object.keys(candidate.probes).filter((one) => heatScale(view.probes[one]));
  const body = el("div", {});
  let shown = name, all = page.allTokens ?? false;
  const draw = () => {
    const many = all ? view.candidates.map((one, place) => [one, place]) : [[candidate, index]];
    body.replaceChildren(heatLegend(heatScale(view.probes[shown]), view.probes[shown]), ...many.filter(([one]) => one.tokens).map(([one, place]) =>
      el("div", { class: "one-text" }, all ? el("h3", {}, `#${place + 1}`) : null, heatMap(one, shown, view.probes[shown], `candidate #${place + 1}`, place === many[0][1]))));
    body.classList.toggle("many", all);
    for (const button of chooser.querySelectorAll("[data-probe]")) button.setAttribute("aria-pressed", String(button.dataset.probe === shown));
  };
  for (const one of names)
    chooser.append(el("button", { type: "button", class: "small", dataset: { probe: one }, on: { click: () => { shown = one; draw(); } } }, `${one} (${view.probes[one].pooling})`));
  const box = el("input", { type: "checkbox", on: { change: () => { all = box.checked; page.allTokens = all; draw(); } } });
  box.checked = all;
  chooser.append(el("label", { class: "check" }, box, " all candidates"));
  draw();
  host.replaceChildren(...parts, chooser, body);
}
