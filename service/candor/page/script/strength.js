// The strength of each probe's penalty: a slider in lambda, with kappa beside it where the card is
// known, and buttons for the values that mean something.

function strengths(view) {
  const names = Object.keys(view.candidates[0].probes).filter((name) => view.model.methods?.[name] !== "project");
  const active = names.filter((name) => view.lambdas()[name] > 0);
  const first = active.length ? active : names.slice(0, 1);
  const shown = names.filter((name) => first.includes(name)).map((name) => strength(view, name));
  const rest = names.filter((name) => !first.includes(name)).map((name) => strength(view, name));
  const more = rest.length ? el("details", { class: "more" }, el("summary", {}, `${count(rest.length, "more probe")}, lambda 0`), rest.map((one) => one.node)) : null;
  const projected = Object.keys(view.candidates[0].probes).filter((name) => view.model.methods?.[name] === "project");
  const note = projected.length ? el("p", { class: "note" }, `R is that of the model without what ${projected.join(", ")} reads (method project): it has no strength.`) : null;
  return { node: el("div", { class: "strengths" }, shown.map((one) => one.node), more, note), show: () => [...shown, ...rest].forEach((one) => one.show()) };
}

function mostLambda(view, name) {
  const unit = lambdaPerKappa(view.probes[name]), served = Math.max(...view.candidates.map((one) => one.probes[name].lambda));
  if (unit) return Math.max(4 * unit, 1.5 * served);
  const far = flips(view.candidates, view.lambdas(), view.model, name, 1e6).map((flip) => flip.at);
  return Math.max(2 * served, ...far.slice(0, 2).map((at) => 1.5 * at), 1);
}

function strength(view, name) {
  const unit = lambdaPerKappa(view.probes[name]), most = mostLambda(view, name), id = `strength-${name.replace(/[^\w-]/g, "_")}`;
  const served = [...new Set(view.candidates.map((one) => one.probes[name].lambda))];
  const slider = el("input", { type: "range", id, min: 0, max: most, step: "any" });
  const number = el("input", { type: "number", min: 0, step: "any", "aria-label": `lambda of ${name}`, class: "num" });
  const kappa = el("span", { class: "num kappa" });
  const set = (lambda) => view.set(lambda, name);
  slider.addEventListener("input", () => set(Number(slider.value)));
  number.addEventListener("change", () => { const value = Number(number.value); if (Number.isFinite(value) && value >= 0) set(value); });
  const preset = (label, value) => el("button", { type: "button", class: "small", on: { click: () => set(value) } }, label);
  const presets = [preset("0", 0), ...served.slice(0, 1).filter((value) => value > 0).map((value) => preset("served", value)),
    ...(unit ? [1, 2].map((value) => preset(`kappa ${value}`, value * unit)) : [])];
  return {
    node: el("div", { class: "strength" },
      el("label", { for: id }, el("b", {}, name), ` ${view.model.methods?.[name] ?? "subtract"}`),
      slider, el("span", { class: "readout" }, "lambda ", number, kappa), el("span", { class: "presets" }, presets)),
    show() {
      const lambda = view.lambdas()[name] ?? 0;
      slider.value = String(lambda);
      slider.setAttribute("aria-valuetext", `lambda ${fmt(lambda)}`);
      if (document.activeElement !== number) number.value = String(Number(lambda.toPrecision(6)));
      kappa.textContent = unit ? `kappa ${fmt(lambda / unit, 2)}` : "";
    },
  };
}
