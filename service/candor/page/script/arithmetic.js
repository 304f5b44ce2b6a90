// R, S and lambda to rewards, as the server computes them: the same IEEE operations in the same
// order (candor.scoring.compose, candor.probes.combine), so that equal inputs give equal bits.

const TOPK_SHARE = 0.1;
const ROLLING_WINDOW = 10;

function total(terms) {
  let sum = 0;
  for (const term of terms) sum += term;
  return sum;
}

/** The terms lambda * bound(S) as one penalty. */
function combine(terms, how) {
  if (terms.length === 0) return 0;
  if (how.kind === "max") return 0 + Math.max(...terms);
  const sum = total(terms);
  if (how.kind !== "spread") return sum;
  const mean = sum / terms.length;
  const squares = total(terms.map((term) => (term - mean) * (term - mean)));
  return mean + how.spread_weight * Math.sqrt(squares / terms.length);
}

/** Penalty and reward of one candidate under these lambdas (by probe name). */
function compose(candidate, lambdas, model) {
  const terms = [], apart = [];
  for (const [name, reading] of Object.entries(candidate.probes)) {
    const lambda = lambdas[name] ?? reading.lambda;
    if (!(lambda > 0)) continue;
    (model.methods?.[name] === "advantage" ? apart : terms).push(lambda * reading.bounded);
  }
  const how = model.combine ?? { kind: "sum", spread_weight: 1 };
  const penalty = combine(terms, how);
  return { penalty, reward: candidate.base_reward - penalty, advantage: combine(apart, how) };
}

/** Places from 1, the highest value first; of equals the first. */
function places(values) {
  const order = values.map((_, index) => index).sort((a, b) => values[b] - values[a] || a - b);
  const found = new Array(values.length);
  order.forEach((index, place) => { found[index] = place + 1; });
  return found;
}

function best(values) {
  let at = 0;
  values.forEach((value, index) => { if (value > values[at]) at = index; });
  return at;
}

/** lambda at kappa 1, in reward units per logit; null where the card is not known. */
function lambdaPerKappa(probe) {
  const found = probe?.calibration;
  if (!found) return null;
  return probe.method === "screen" ? found.std_R : found.std_R / (found.std_bounded_S ?? found.std_S);
}

/** Where the choice flips as the lambda of `name` grows from 0 to `most`: [{at, from, to}].
 *
 * With one line per candidate (the sum) the flips are exact crossings; a penalty that is combined
 * otherwise is searched.
 */
function flips(candidates, lambdas, model, name, most) {
  if (candidates.length < 2 || model.methods?.[name] === "advantage") return [];
  const rewards = (lambda) => candidates.map((one) => compose(one, { ...lambdas, [name]: lambda }, model).reward);
  return (model.combine?.kind ?? "sum") === "sum" ? crossings(candidates, rewards(0), name, most) : searched(rewards, most);
}

function crossings(candidates, starts, name, most) {
  const slopes = candidates.map((one) => one.probes[name].bounded);
  const found = [];
  let now = best(starts), at = 0;
  for (;;) {
    let next = null, when = Infinity;
    candidates.forEach((_, other) => {
      if (!(slopes[other] < slopes[now])) return;
      const lambda = Math.max(at, (starts[now] - starts[other]) / (slopes[now] - slopes[other]));
      if (lambda < when || (lambda === when && slopes[other] < slopes[next])) { when = lambda; next = other; }
    });
    if (next === null || when > most) return found;
    found.push({ at: when, from: now, to: next });
    now = next;
    at = when;
  }
}

function searched(rewards, most, steps = 256) {
  const found = [];
  let low = 0, now = best(rewards(0));
  for (let step = 1; step <= steps; step += 1) {
    const high = (most * step) / steps, next = best(rewards(high));
    if (next !== now) {
      let left = low, right = high;
      for (let half = 0; half < 40; half += 1) {
        const middle = (left + right) / 2;
        if (best(rewards(middle)) === now) left = middle; else right = middle;
      }
      found.push({ at: right, from: now, to: next });
      now = next;
    }
    low = high;
  }
  return found;
}

/** How much each token's logit counts in S, by the probe's pooling; the weights add up to 1. */
function poolingWeights(logits, pooling) {
  const weights = new Array(logits.length).fill(0);
  const n = logits.length;
  if (n === 0) return weights;
  if (pooling === "max") weights[best(logits)] = 1;
  else if (pooling === "last") weights[n - 1] = 1;
  else if (pooling === "topk") {
    const k = Math.ceil(TOPK_SHARE * n), rank = places(logits);
    rank.forEach((place, index) => { if (place <= k) weights[index] = 1 / k; });
  } else if (pooling === "rolling-max") {
    const width = Math.min(ROLLING_WINDOW, n);
    const means = logits.slice(0, n - width + 1).map((_, from) => total(logits.slice(from, from + width)) / width);
    const from = best(means);
    for (let index = from; index < from + width; index += 1) weights[index] = 1 / width;
  } else weights.fill(1 / n);
  return weights;
}

/** The one scale of a probe's heat maps, from its card: the neutral point (where a hinge begins, or
 * the median S), and how far the 1st or the 99th percentile of S is from it, whichever is further.
 * Twice as far for a mean, because single tokens spread more than their means. */
function heatScale(probe) {
  const marks = probe?.calibration?.percentiles;
  if (!marks) return null;
  const neutral = probe.bound?.reference ?? marks.p50 ?? 0;
  const half = Math.max(Math.abs((marks.p99 ?? 1) - neutral), Math.abs(neutral - (marks.p1 ?? -1)));
  const twice = probe.pooling === "mean" ? 2 : 1;
  return { neutral, half: twice * half || 1, twice: twice === 2 };
}

const HEAT_STEPS = 10;

function heatStep(logit, scale) {
  const step = Math.round(((logit - scale.neutral) / scale.half) * HEAT_STEPS);
  return Math.max(-HEAT_STEPS, Math.min(HEAT_STEPS, step));
}
