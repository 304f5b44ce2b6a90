// The one server that the page may ask: its own. Keys stay in this page's memory.

function liveServer() {
  const keys = { api: "", operator: "" };
  let locked = false;
  const root = new URL(location.pathname.replace(/inspector\/?$/, ""), location.origin);
  async function ask(path, { method = "GET", body, key = keys.api } = {}) {
    const headers = { ...(key ? { Authorization: `Bearer ${key}` } : {}), ...(body ? { "Content-Type": "application/json" } : {}) };
    let answer;
    try {
      answer = await fetch(new URL(path, root), { method, headers, body: body ? JSON.stringify(body) : undefined, cache: "no-store" });
    } catch {
      throw Object.assign(new Error("the server does not answer"), { status: 0 });
    }
    if (answer.ok) return answer;
    const found = await answer.json().catch(() => null);
    const error = found?.error;
    throw Object.assign(new Error(error ? `${error.message} (${error.type})` : found?.reason ?? `status ${answer.status}`), { status: answer.status, detail: error });
  }
  return {
    keys,
    needsKey: () => locked || Boolean(keys.api),
    async json(path, options) {
      try { return await (await ask(path, options)).json(); }
      catch (error) { if (error.status === 401 && !options?.key) locked = true; throw error; }
    },
    async text(path, options) { return (await ask(path, options)).text(); },
    score(body) { return this.json("v1/rewards", { method: "POST", body }); },
    async ready() {
      try { return await (await ask("readyz")).json(); }
      catch (error) { return { status: error.status ? error.message : "no answer", reason: error.message }; }
    },
  };
}

/** The part of a probe's card that the page needs, by name. */
function probesByName(listed) {
  return Object.fromEntries(listed.map((one) => [one.name, { ...one, ...one.card, method: one.method, lambda: one.lambda }]));
}

/** An item of a request and the server's answer to it, as a group. */
function groupOfAnswer(draft, answer, number) {
  const scores = answer.results[number].responses, usage = answer.usage;
  return { ...draft, ...scoredCandidates(draft.responses, scores), answer, usage, model: answer.model };
}
