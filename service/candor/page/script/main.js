// Puts the page together: as the live inspector of a server, or as a report on the data in the file.

const state = { groups: [], at: 0, lambdas: {}, model: {}, probes: {}, live: null };

function theme() {
  const order = ["auto", "light", "dark"], root = document.documentElement;
  const button = document.getElementById("theme");
  if (!button) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = order[(order.indexOf(root.dataset.theme ?? "auto") + 1) % 3];
    root.dataset.theme = next;
    button.textContent = `theme: ${next}`;
  });
}

/** Tabs by the keyboard pattern of the ARIA guide: arrows move, the chosen one is in the tab order. */
function tabs(host, entries) {
  const bar = el("div", { class: "tabs", role: "tablist" }), panel = el("div", { role: "tabpanel", tabindex: "-1" });
  const buttons = entries.map(({ name, show }, index) => el("button", { type: "button", role: "tab", id: `tab-${index}`, "aria-selected": "false", tabindex: "-1", on: {
    click: () => choose(index),
    keydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = (index + step + buttons.length) % buttons.length;
      choose(next);
      buttons[next].focus();
    } } }, name));
  const choose = (index) => {
    buttons.forEach((button, other) => { button.setAttribute("aria-selected", String(other === index)); button.tabIndex = other === index ? 0 : -1; });
    panel.setAttribute("aria-labelledby", `tab-${index}`);
    panel.replaceChildren();
    entries[index].show(panel);
  };
  bar.append(...buttons);
  host.replaceChildren(bar, panel);
  return choose;
}

function probesView(host, page) {
  const entries = Object.entries(page.probes);
  if (!entries.length) { host.append(el("p", {}, "No probe's card is known.")); return; }
  host.append(...entries.map(([name, one]) => el("section", { class: "card" }, el("h2", {}, name), el("p", {}, one.trait ?? ""),
    el("dl", {}, [["method", one.method ?? "subtract"], ["lambda in force", one.lambda === undefined ? "–" : fmt(one.lambda, 4)], ["lambda at kappa 1", fmt(lambdaPerKappa(one), 4)],
      ["layer, pooling", `${one.layer}, ${one.pooling}`], ["bound", one.bound ? boundText(one.bound) : "–"],
      ["AUROC within a prompt (test rows)", fmt(one.within_prompt_auroc ?? one.metrics?.test?.within_prompt_auroc ?? null)],
      ["std(R), std(S), std(bound(S)) within a prompt", one.calibration ? [one.calibration.std_R, one.calibration.std_S, one.calibration.std_bounded_S].map((value) => fmt(value)).join(", ") : "–"],
      ["version, sha256", `${one.version ?? 1}, ${(one.sha256 ?? "–").slice(0, 16)}`]].map(([term, value]) => [el("dt", {}, term), el("dd", {}, value)])),
    (one.warnings ?? []).map((warning) => el("p", { class: "warn" }, warning.message)))));
}

function report(host, data) {
  Object.assign(state, { groups: data.groups, model: data.model, probes: data.probes });
  const side = el("aside", { class: "side" }), main = el("div", { class: "main-part" });
  const choose = tabs(main, [
    { name: "Compare", show: (panel) => { const box = el("div", {}); panel.append(el("div", { class: "context-box" }, contextOf(state.groups[state.at])), box); comparison(box, state.groups[state.at], state); } },
    { name: "Rows over time", show: (panel) => rowsView(panel, state, open) },
    { name: "Probes", show: (panel) => probesView(panel, state) },
  ]);
  const open = (at) => { state.at = at; list.show(); choose(0); main.scrollIntoView({ block: "nearest" }); };
  const list = promptList(state, open);
  if (state.groups.length > 1) side.append(el("h2", {}, count(state.groups.length, "prompt")), list.node);
  else side.hidden = true;
  host.append(side, main);
  host.classList.toggle("alone", state.groups.length < 2);
  choose(0);
}

async function live(host) {
  const server = liveServer(), status = el("span", { class: "status", role: "status" }, "asking the server …");
  const model = el("span", { class: "model" }), lock = el("form", { class: "bar lock", hidden: true });
  document.getElementById("top").append(model, status);
  const key = el("input", { type: "password", autocomplete: "off", placeholder: "API key", "aria-label": "API key" }), refused = el("span", { class: "error", role: "alert" });
  lock.append("This server asks for a key. It stays in this page's memory. ", key, el("button", { type: "submit", class: "small" }, "use"), refused);
  const side = el("aside", { class: "side" }), main = el("div", { class: "main-part" });
  host.append(lock, side, main);
  state.live = server;
  const rescore = async (drafts) => {
    const items = drafts.map(itemOf), ask = (include) => server.score({ items, include, truncation: drafts[0].truncation ?? "error" });
    let answer, notokens;
    try { answer = await ask(["tokens", "text"]); } catch (error) {
      if (error.detail?.type !== "invalid_messages") throw error;
      answer = await ask(["text"]);
      notokens = error.message;
    }
    const groups = drafts.map((draft, number) => groupOfAnswer(draft, answer, number));
    for (const group of groups) group.candidates.forEach((one) => { one.notokens = notokens; });
    return groups;
  };
  /** An example as this server takes it: a model without a chat template reads it as plain text. */
  let templated = true;
  const example = (one) => templated ? one : { title: one.title, prompt: `${contentOf(one.messages[0])}\n`, templated: true, responses: one.responses };
  /** Scores one example after the other, until the penalty changes the choice of one; the page begins with that, or with the first. */
  const begin = async () => {
    status.textContent = "scoring an example …";
    try { state.groups = await rescore([example(EXAMPLES[0])]); } catch (error) {
      if (error.detail?.type !== "invalid_messages") throw error;
      templated = false;
      state.groups = await rescore([example(EXAMPLES[0])]);
    }
    for (const one of EXAMPLES.slice(1)) {
      if (choiceFlips(state.groups.at(-1), state)) break;
      try { state.groups.push(...await rescore([example(one)])); } catch { break; }  // the first is there to be shown
    }
    state.at = Math.max(0, state.groups.findIndex((group) => choiceFlips(group, state)));
    form.fillIn(state.groups[state.at]);
    list();
    choose(0);
    status.textContent = "ready";
  };
  const form = editor({ example, load: (groups, fillIn) => {
    const whole = groups.filter((group) => group.messages || group.prompt !== undefined);
    fillIn(groups[0]);
    if (whole.length < 2 && !whole[0]?.candidates) { form.submit(); return; }
    state.groups = whole.filter((group) => group.candidates?.length);
    if (!state.groups.length) throw new Error("of several rows only scored ones (candor score) can be listed; paste one row to score it here");
    state.at = 0;
    list();
    choose(0);
  } }, async (draft) => {
    state.groups.push(...await rescore([draft]));
    state.at = state.groups.length - 1;
    list();
    choose(0);
  });
  const prompts = el("div", {});
  side.append(form.form, prompts);
  const open = (at) => { state.at = at; form.fillIn(state.groups[at]); list(); choose(0); };
  const list = () => prompts.replaceChildren(...(state.groups.length > 1 ? [el("h2", {}, "Scored"), promptList(state, open).node] : []));
  let nothing = "An example is scored here as soon as the server is ready. Or write a conversation with candidates and press Score.";
  const compare = (panel) => {
    const group = state.groups[state.at], box = el("div", {});
    if (group) panel.append(el("div", { class: "context-box narrow" }, contextOf(group)));
    panel.append(box, group?.answer ? rawAnswer(group) : "");
    if (group) comparison(box, group, state);
    else box.append(el("p", { class: "empty" }, nothing));
  };
  const choose = tabs(main, [{ name: "Compare", show: compare }, { name: "Rows over time", show: (panel) => rowsView(panel, state, open) },
    { name: "Probes", show: (panel) => probesView(panel, state) }, { name: "Operator", show: (panel) => operatorView(panel, server) }]);
  choose(0);
  form.fillIn(EXAMPLES[0]);
  const introduce = async () => {
    try {
      const [models, probes] = await Promise.all([server.json("v1/models"), server.json("v1/probes")]);
      Object.assign(state, { model: models.data[0], probes: probesByName(probes.probes) });
      model.textContent = `${state.model.id} · ${state.model.engine} · ${state.model.dtype} · ${state.model.formula}`;
      lock.hidden = true;
      if (!state.groups.length) await begin();
    } catch (error) {
      lock.hidden = error.status !== 401;
      refused.textContent = server.keys.api && !lock.hidden ? "The server refused this key." : "";
      nothing = lock.hidden ? `No example could be scored: ${error.message}` : "Give the key above; then an example is scored here.";
      status.textContent = lock.hidden ? "ready" : "asks for a key";
      if (!state.groups.length) choose(0);
      if (!lock.hidden) key.focus();
    }
  };
  lock.addEventListener("submit", (event) => { event.preventDefault(); server.keys.api = key.value; introduce(); });
  for (let known = false; ; ) {
    const found = await server.ready();
    status.textContent = found.status === "ready" ? "ready" : found.reason ?? found.status;
    status.dataset.state = found.status === "ready" ? "ready" : "waiting";
    if (found.status === "ready" && !known) { known = true; await introduce(); }
    await new Promise((done) => setTimeout(done, known ? 15000 : 2000));
  }
}

function rawAnswer(group) {
  const { results, ...rest } = group.answer, light = { ...rest, results: results.map((one) => ({ ...one, responses: one.responses.map(({ tokens, text, ...kept }) => kept) })) };
  const warnings = (group.answer.warnings ?? []).map((one) => el("p", { class: "warn" }, `candidate #${one.response + 1}: ${one.message} (${one.type})`));
  const many = group.answer.results.length > 1 ? " (the whole request)" : "", times = group.answer.timings, usage = group.usage;
  return el("section", { class: "raw" }, warnings, el("p", { class: "note" }, `${usage.num_tokens} tokens sent${many}, ${usage.num_computed_tokens} computed, ${usage.num_shared_tokens} shared; ${fmt(times.queue_s, 3)} s in the queue, ${fmt(times.forward_s, 3)} s in the model.`),
    el("details", {}, el("summary", {}, "the answer as JSON, without tokens"), el("pre", { tabindex: "0" }, JSON.stringify(light, null, 1))));
}

theme();
const data = pageData();
drawFigures(data.plots ?? {});
const place = document.getElementById("inspector");
if (place && place.dataset.live !== undefined) live(place);
else if (place && data.groups?.length) report(place, data);
for (const host of document.querySelectorAll("[data-tokens]")) {
  const one = data.examples[Number(host.dataset.tokens)];
  const first = host.dataset.tokens === "0";
  if (first) host.append(heatLegend(heatScale(data.probe), data.probe));
  host.append(heatMap(one, data.probe.name, data.probe, "the example", first));
}
