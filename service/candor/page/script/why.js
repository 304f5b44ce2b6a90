// Why this score: the arithmetic to the last bit, the exact text that the model read, the call, and
// checks of parity.

function why(host, view, group, index, page) {
  const one = view.candidates[index];
  const fresh = el("section", { class: "why" });
  host.replaceChildren(el("details", { class: "why-box", open: page.whyOpen ?? false, on: { toggle: (event) => { page.whyOpen = event.target.open; } } },
    el("summary", {}, el("h2", {}, `Why #${index + 1} has this score`)), fresh));
  const sum = el("div", {});
  host.addEventListener("strength", () => sum.isConnected && sum.replaceChildren(arithmetic(view, one)));
  fresh.append(el("h3", {}, "Arithmetic"), sum, el("h3", {}, "What the model read"), readText(view, group, index),
    el("h3", {}, "The call"), ...theCall(group, page), el("h3", {}, "Parity"), parity(view, group, index, page));
  sum.replaceChildren(arithmetic(view, one));
}

/** R - sum of lambda * bound(S), with every digit, and whether the served numbers are these. */
function arithmetic(view, one) {
  const lambdas = view.lambdas(), found = compose(one, lambdas, view.model);
  const lines = [`R = ${one.base_reward}`];
  for (const [name, reading] of Object.entries(one.probes)) {
    const probe = view.probes[name], lambda = lambdas[name] ?? reading.lambda, method = view.model.methods?.[name] ?? "subtract";
    if (method === "project") { lines.push(`${name}: projected out of the model; S = ${reading.score} was read before`); continue; }
    const bounded = method === "screen" ? "[S > threshold]" : boundText(probe?.bound);
    lines.push(`${name}: S = ${reading.score}, ${bounded} = ${reading.bounded}, lambda = ${lambda}, term = ${lambda * reading.bounded}${method === "advantage" ? " (not in the reward)" : ""}`);
  }
  const how = view.model.combine?.kind ?? "sum";
  lines.push(`penalty = ${how} of the terms = ${found.penalty}`, `reward = R - penalty = ${found.reward}`);
  const served = compose(one, Object.fromEntries(Object.entries(one.probes).map(([name, reading]) => [name, reading.lambda])), view.model);
  const equal = served.reward === one.reward && served.penalty === one.penalty;
  return el("div", {}, el("pre", { tabindex: "0", class: "sum" }, lines.join("\n")),
    el("p", { class: equal ? "ok" : "bad" }, equal ? "✓ With the served lambdas this arithmetic gives the served reward to the bit."
      : `✗ With the served lambdas this arithmetic gives ${served.reward}, and the server answered ${one.reward}.`));
}

function boundText(bound) {
  if (!bound) return "bound(S)";
  if (bound.kind === "hinge") return `max(0, S - ${fmt(bound.reference, 3)})`;
  if (bound.kind === "clip") return `clip(S, ${fmt(bound.low, 2)}, ${fmt(bound.high, 2)})`;
  if (bound.kind === "tanh") return `${fmt(bound.scale, 2)} tanh((S - ${fmt(bound.reference, 2)}) / ${fmt(bound.scale, 2)})`;
  return "S";
}

/** The templated text with marks: what was cut, what the candidates share, and the response. */
function readText(view, group, index) {
  const read = view.candidates[index].text_read;
  if (!read) return el("div", {}, contextOf(group), el("p", { class: "note" }, "The templated text is not stored with these scores; the inspector of a running server shows it."));
  const letters = Array.from(read.text), ids = view.candidates.map((one) => one.text_read?.token_ids ?? []);
  const shared = sharedTokens(ids), sharedEnd = shared ? Math.max(0, ...read.offsets.slice(0, shared).map((offset) => offset[1])) : 0;
  const cut = read.dropped ?? [0, 0], edges = [0, cut[0], cut[1], Math.min(sharedEnd, read.start), read.start, read.end, letters.length];
  const marks = [...new Set(edges)].filter((at) => at <= letters.length).sort((a, b) => a - b);
  const pre = el("pre", { class: "read", tabindex: "0" });
  for (let place = 0; place + 1 < marks.length; place += 1) {
    const [from, to] = [marks[place], marks[place + 1]], text = letters.slice(from, to).join("");
    const kind = from >= cut[0] && to <= cut[1] ? "cut" : from >= read.start && to <= read.end ? "response" : to <= sharedEnd ? "shared" : "plain";
    pre.append(el("span", { class: kind }, text));
  }
  const alone = view.candidates.length === 1;
  return el("div", {}, pre, el("ul", { class: "key" },
    el("li", {}, el("span", { class: "response" }, "response"), ` ${count(read.num_response_tokens, "token")}, which the probes pool`),
    alone ? null : el("li", {}, el("span", { class: "shared" }, "shared"), ` ${count(shared, "token")} that all candidates begin with${view.model.engine === "packed" ? ": computed once" : ""}`),
    el("li", {}, el("span", { class: "cut" }, "cut"), read.dropped ? ` ${count(cut[1] - cut[0], "character")} that the model did not read (truncation: left)` : " nothing: the model read the whole text"),
    el("li", {}, `${count(read.token_ids.length, "token")} in all; R is read at the last one`)));
}

function sharedTokens(lists) {
  const least = Math.min(...lists.map((list) => list.length));
  for (let place = 0; place < least; place += 1)
    if (lists.some((list) => list[place] !== lists[0][place])) return place;
  return least;
}

/** The request as curl and as Python, for the strengths that are on screen. */
function theCall(group, page) {
  const strengths = Object.fromEntries(Object.entries(page.lambdas).map(([name, lambda]) => [name, { lambda }]));
  const body = { items: [{ ...itemOf(group) }], ...(Object.keys(strengths).length ? { penalties: strengths } : {}) };
  const url = page.live ? location.origin : "http://127.0.0.1:8000";
  const key = page.live?.needsKey() ? ` -H "Authorization: Bearer $CANDOR_API_KEY"` : "";
  const quoted = JSON.stringify(body).replace(/'/g, "'\\''");
  const python = ["from candor.client import RewardClient", "", `with RewardClient(${pyString(url)}) as client:`,
    `    reply = client.rewards(${pyValue(body.items)}${body.penalties ? `, penalties=${pyValue(body.penalties)}` : ""})`, "print(reply.results[0])"];
  return [copyable("curl", `curl -s ${url}/v1/rewards -H 'Content-Type: application/json'${key} -d '${quoted}'`), copyable("Python", python.join("\n"))];
}

function itemOf(group) {
  const texts = group.responses ?? group.candidates.map((one) => one.text);
  const context = group.prompt !== undefined && group.prompt !== null ? { prompt: group.prompt, ...(group.templated ? { templated: true } : {}) } : { messages: group.messages };
  return { ...context, ...(group.tools?.length ? { tools: group.tools } : {}), responses: texts };
}

function pyString(text) { return JSON.stringify(text); }

/** JSON as a Python literal. */
function pyValue(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(pyValue).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, one]) => `${pyString(name)}: ${pyValue(one)}`).join(", ")}}`;
  return JSON.stringify(value);
}

/** A program that compares R with transformers' own, and the check that a live server can do. */
function parity(view, group, index, page) {
  const one = view.candidates[index], box = el("div", {});
  if (one.text_read) {
    const program = ["import torch", "from transformers import AutoModelForSequenceClassification", "",
      `ids = ${JSON.stringify(one.text_read.token_ids)}`, `model = AutoModelForSequenceClassification.from_pretrained("MODEL", dtype=torch.float32).eval()`,
      "model.config.pad_token_id = None  # R is read at the last token, whichever it is",
      "with torch.no_grad():", "    r = model(torch.tensor([ids])).logits[0, 0].item()", `print(r, "served:", ${one.base_reward})`];
    box.append(el("p", { class: "note" }, "R is that of transformers on the same tokens: within 1e-4 for a server in float32. In 16 bits the last digits depend on the batch."), copyable("Python, with your RM as MODEL", program.join("\n")));
  }
  if (!page.live) return box.childElementCount ? box : el("p", { class: "note" }, "A running server can be asked again: paste the call above.");
  const out = el("div", { "aria-live": "polite" });
  const button = el("button", { type: "button", on: { click: async () => { button.disabled = true; await alone(out, view, group, page); button.disabled = false; } } }, "score each candidate alone and compare");
  box.append(button, out);
  return box;
}

async function alone(out, view, group, page) {
  out.textContent = "scoring …";
  try {
    const item = itemOf(group), rows = [];
    for (const one of view.candidates) {
      const answer = await page.live.score({ items: [{ ...item, responses: [item.responses[one.place]] }], truncation: group.truncation ?? "error" });
      const again = answer.results[0].responses[0];
      const scores = Object.entries(again.probes).map(([name, reading]) => Math.abs(reading.score - one.probes[name].score));
      rows.push([`#${one.place + 1}`, one.base_reward, again.base_reward, Math.abs(again.base_reward - one.base_reward), Math.max(0, ...scores)]);
    }
    const most = [3, 4].map((column) => Math.max(...rows.map((row) => row[column])));
    out.replaceChildren(el("p", {}, `Largest difference: R ${most[0].toExponential(1)}, S ${most[1].toExponential(1)} (the server computes in ${page.model.dtype}).`),
      el("table", {}, el("thead", {}, el("tr", {}, ["candidate", "R together", "R alone", "difference of R", "of S"].map((name) => el("th", {}, name)))),
        el("tbody", {}, rows.map((row) => el("tr", {}, row.map((value) => el("td", { class: "num" }, typeof value === "number" ? String(Number(value.toPrecision(6))) : value)))))));
  } catch (error) {
    out.textContent = error.message;
  }
}
