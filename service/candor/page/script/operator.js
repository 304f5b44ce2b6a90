// The operator's panel: drift, alarms, monitors, judged rows, and the histograms of all traffic. The
// server gives these to the operator's key alone.

function operatorView(host, server) {
  const key = el("input", { type: "password", autocomplete: "off", "aria-label": "operator's key", placeholder: "operator's key" });
  const out = el("div", { "aria-live": "polite" });
  const load = async () => {
    out.textContent = "asking …";
    const own = { key: key.value || server.keys.api };
    try {
      const [drift, labels, metrics] = await Promise.all([server.json("v1/drift", own).catch(absent), server.json("v1/labels", own), server.text("metrics", own)]);
      out.replaceChildren(...driftPart(drift), ...labelPart(labels), ...trafficPart(metrics));
    } catch (error) {
      out.replaceChildren(el("p", { class: "error" }, error.status === 401 ? "This panel takes the operator's key (--operator-key-file), or the API key where there is no other." : error.message));
    }
  };
  host.replaceChildren(el("form", { class: "bar", on: { submit: (event) => { event.preventDefault(); load(); } } }, key, el("button", { type: "submit", class: "main" }, "show")),
    el("p", { class: "note" }, "Drift, monitors and judged rows. The key stays in this page's memory and is sent to this server only. Monitors are shown here and nowhere else: keep this panel away from whoever trains on the reward."), out);
  load();
}

function absent(error) {
  if (error.status === 404) return null;
  throw error;
}

function table(head, rows) {
  return el("div", { class: "scroll", tabindex: "0" }, el("table", {}, el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", { class: row.look }, row.cells.map((value) => el("td", {}, value)))))));
}

function driftPart(drift) {
  if (!drift) return [el("h2", {}, "Drift"), el("p", {}, "This server keeps no drift windows (--drift-window 0).")];
  const active = drift.alarms.filter((alarm) => alarm.active);
  const waiting = drift.num_missing > 0 ? `Nothing is compared yet: ${count(drift.num_missing, "more response")} must be answered first. ` : "";
  const head = active.length ? count(active.length, "alarm") : waiting ? "too early" : "no alarm";
  const spread = (found) => (found ? `${fmt(found.mean, 2)} ± ${fmt(found.std, 2)}` : "–");
  const rows = Object.entries(drift.signals).map(([name, signal]) => ({ look: signal.psi > 0.25 ? "alarm" : "", cells: [name, spread(signal.reference), spread(signal.current), signed(signal.shift, 2), fmt(signal.psi, 2), fmt(signal.ks, 2)] }));
  const alarms = drift.alarms.map((alarm) => ({ look: alarm.active ? "alarm" : "", cells: [alarm.probe, alarm.rule, alarm.active === null ? "not compared" : alarm.active ? "ALARM" : "quiet", alarm.reason ?? ""] }));
  return [el("div", { class: "headline" }, el("p", { class: `figure ${active.length ? "bad" : ""}` }, head), el("p", {}, `${waiting}${drift.num_reference} reference and ${drift.num_current} current responses of ${drift.window}, reference from ${drift.reference_source}.`)),
    el("h2", {}, "Alarms"), table(["probe", "rule", "state", "reason"], alarms),
    active.length ? el("p", { class: "note" }, "Read the responses with the highest rewards of the last hour in your trainer's log; judged rows are at /v1/labels/rows.") : null,
    el("h2", {}, "Signals"), table(["signal", "reference", "current", "shift (std)", "PSI", "KS"], rows)].filter(Boolean);
}

function labelPart(labels) {
  const rows = Object.entries(labels.probes ?? {}).map(([name, one]) => ({ look: one.alarm ? "alarm" : "", cells: [name + (one.monitor ? " (monitor)" : ""), fmt(one.auroc, 3), `${fmt(one.low, 2)} to ${fmt(one.high, 2)}`, fmt(one.level, 3), one.alarm ?? ""] }));
  return [el("h2", {}, "Judged rows"), rows.length ? table(["probe", "judged AUROC", "95 %", "level", "alarm"], rows) : el("p", {}, "No judged rows.")];
}

/** R, reward and every S of all traffic since the start, from the server's metrics. */
function trafficPart(metrics) {
  const found = histogramsOf(metrics, ["candor_base_reward", "candor_reward", "candor_probe_score"]);
  const hosts = found.filter((one) => one.total > 0).map((one) => {
    const box = el("figure", { class: "panel" }, el("figcaption", {}, el("b", {}, one.title), ` ${count(one.total, "response")}`));
    histogramPlot(box, { edges: one.edges, x: { label: one.title }, panels: [{ title: "", series: [{ name: one.title, look: one.look, counts: one.counts }] }] });
    return box;
  });
  return [el("h2", {}, "All traffic since the start"), hosts.length ? el("div", { class: "panels" }, hosts) : el("p", {}, "No response has been scored.")];
}

/** Prometheus histograms as counts per bucket; the outer buckets are as wide as their neighbours. */
function histogramsOf(text, names) {
  const series = new Map();
  for (const line of text.split("\n")) {
    const match = /^(\w+)_bucket\{(.*)\} (\S+)$/.exec(line);
    if (!match || !names.includes(match[1])) continue;
    const le = /le="([^"]+)"/.exec(match[2])[1], probe = /probe="([^"]+)"/.exec(match[2])?.[1];
    const key = match[1] + (probe ?? "");
    if (!series.has(key)) series.set(key, { name: match[1], probe, upper: [], cumulative: [] });
    series.get(key).upper.push(le === "+Inf" ? Infinity : Number(le));
    series.get(key).cumulative.push(Number(match[3]));
  }
  return [...series.values()].map(({ name, probe, upper, cumulative }) => {
    const counts = cumulative.map((value, index) => value - (cumulative[index - 1] ?? 0));
    const used = counts.map((value, index) => (value ? index : -1)).filter((index) => index >= 0);
    const first = Math.max(0, (used[0] ?? 0) - 1), last = Math.min(counts.length - 1, (used.at(-1) ?? 0) + 1);
    const edge = (index) => (index < 0 ? upper[0] - (upper[1] - upper[0]) : upper[index] === Infinity ? upper[index - 1] + (upper[index - 1] - upper[index - 2]) : upper[index]);
    const edges = [edge(first - 1)];
    for (let index = first; index <= last; index += 1) edges.push(edge(index));
    const title = { candor_base_reward: "R", candor_reward: "reward" }[name] ?? `S ${probe}`;
    return { title, look: { R: "base", reward: "now" }[title] ?? "held", edges, counts: counts.slice(first, last + 1), total: cumulative.at(-1) ?? 0 };
  });
}
