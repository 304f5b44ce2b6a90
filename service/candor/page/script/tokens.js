// The heat map of one response: a background and an underline per token, on the probe's one scale.

/** The response's tokens as pieces of text: tokens that share characters (bytes of one character)
 * are one piece, characters that no token covers are pieces without tokens. Offsets of the server
 * count code points, and JavaScript counts UTF-16 units. */
function piecesOf(candidate) {
  const letters = Array.from(candidate.text), pieces = [];
  let end = 0;
  candidate.tokens.forEach((token, index) => {
    const last = pieces.at(-1);
    if (last && last.tokens.length && token.start < end) {
      last.tokens.push(index);
      if (token.end > end) { last.text += letters.slice(end, token.end).join(""); end = token.end; }
      return;
    }
    if (token.start > end) pieces.push({ text: letters.slice(end, token.start).join(""), tokens: [] });
    pieces.push({ text: letters.slice(token.start, token.end).join(""), tokens: [index] });
    end = Math.max(end, token.end);
  });
  if (end < letters.length) pieces.push({ text: letters.slice(end).join(""), tokens: [] });
  return pieces;
}

/** White space that would not be seen is shown. */
function visible(text) {
  if (text === "") return "∅";
  if (/^ +$/.test(text)) return "␣".repeat(text.length);
  return text.replace(/\n/g, "⏎\n").replace(/\t/g, "⇥\t");
}

const HOW = {
  mean: "S is the mean of all token logits: each token's share is its logit divided by their number.",
  max: "S is the largest token logit: the outlined token alone makes S, and the others count nothing.",
  last: "S is the last token's logit: the outlined token alone makes S, and the others count nothing.",
  topk: "S is the mean of the tenth of the tokens with the largest logits: only the outlined tokens count.",
  "rolling-max": "S is the largest mean over ten tokens in a row: only the outlined tokens count.",
};

function heatLegend(scale, probe) {
  const swatches = [];
  for (let step = -HEAT_STEPS; step <= HEAT_STEPS; step += 1) swatches.push(el("span", { class: `heat ${heatClass(step)}` }, "\u00a0"));
  const where = probe.bound?.reference === undefined || probe.bound.reference === null ? "the median S" : "where the penalty begins";
  return el("div", { class: "heatlegend" },
    el("span", { class: "num" }, fmt(scale.neutral - scale.half, 1)), el("span", { class: "swatches", "aria-hidden": "true" }, swatches),
    el("span", { class: "num" }, fmt(scale.neutral + scale.half, 1)),
    el("span", { class: "note" }, `Token logit, on one scale from the probe's card for every text: neutral at ${fmt(scale.neutral, 2)}, ${where}; the ends are ` +
      `${scale.twice ? "twice as far as " : ""}the 1st or 99th percentile of S. Double underline: beyond the scale.`));
}

function heatClass(step) {
  return step === 0 ? "" : step > 0 ? `w${step}` : `c${-step}`;
}

/** The heat map of `candidate` for the probe `name`. Returns its element. */
function heatMap(candidate, name, probe, label, explained = true) {
  const scale = heatScale(probe), logits = candidate.tokens.map((token) => token.probes[name]);
  const weights = poolingWeights(logits, probe.pooling), partial = probe.pooling !== "mean";
  const pieces = piecesOf(candidate), spans = [];
  const text = el("div", { class: "tokens", tabindex: "0", role: "group",
    "aria-label": `Tokens of ${label}. Arrow keys go from token to token; the line below says what each has.` });
  const detail = el("p", { class: "detail", "aria-live": "polite" });
  for (const piece of pieces) {
    if (!piece.tokens.length) { text.append(piece.text); continue; }
    const logit = total(piece.tokens.map((index) => logits[index])) / piece.tokens.length;
    const counts = piece.tokens.some((index) => weights[index] > 0);
    const classes = ["tok"];
    if (!partial || counts) {
      const step = heatStep(logit, scale);
      classes.push(heatClass(step));
      if (Math.abs(logit - scale.neutral) > scale.half) classes.push("beyond");
    }
    if (partial && counts) classes.push("counts");
    const span = document.createElement("span");
    span.className = classes.join(" ");
    span.textContent = visible(piece.text);
    spans.push(span);
    span.dataset.at = String(spans.length - 1);
    piece.span = span;
    text.append(span);
  }
  const shown = pieces.filter((piece) => piece.tokens.length);
  const describe = (at) => {
    const parts = shown[at].tokens.map((index) => {
      const token = candidate.tokens[index], share = weights[index] * logits[index];
      return `token ${index + 1} of ${logits.length}${token.id === undefined ? "" : `, id ${token.id}`}: logit ${signed(logits[index])}` +
        (weights[index] > 0 ? `, share of S ${signed(share, 4)}` : ", counts nothing in S");
    });
    detail.replaceChildren(el("code", {}, visible(shown[at].text).trimEnd() || "␣"), " ", parts.join(" · "));
  };
  let active = -1;
  const go = (at) => {
    if (at < 0 || at >= spans.length) return;
    spans[active]?.classList.remove("active");
    active = at;
    spans[at].classList.add("active");
    describe(at);
  };
  const place = (event) => { const at = event.target.dataset?.at; return at === undefined ? -1 : Number(at); };
  text.addEventListener("pointerover", (event) => { if (event.pointerType === "mouse") { const at = place(event); if (at >= 0) describe(at); } });
  text.addEventListener("click", (event) => go(place(event)));
  text.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10 }[event.key];
    if (step) go(Math.max(0, Math.min(spans.length - 1, active + step)));
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(spans.length - 1);
    else return;
    event.preventDefault();
    spans[active].scrollIntoView({ block: "nearest" });
  });
  const sum = total(weights.map((weight, index) => weight * logits[index]));
  detail.textContent = "Point at a token, tap it, or use the arrow keys.";
  return el("div", { class: "heatmap" }, text, detail, !explained ? null :
    el("p", { class: "note" }, HOW[probe.pooling] ?? "", ` The shares add up to ${signed(sum, 4)}; the server's S is ${signed(candidate.probes[name].score, 4)}.`,
      " A token's logit is the probe read at that place, where the model has seen everything before it: it does not say that the word itself flatters."));
}
