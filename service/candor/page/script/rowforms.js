// Rows in the forms that people have, as groups: Candor's requests and scored rows, OpenAI messages,
// TRL's prompt-completion and preference rows, or plain text.

function groupOfRow(row, key) {
  if (Array.isArray(row)) return groupOfRow({ messages: row }, key);
  if (row.items) return groupOfRow(row.items[0], key);
  const texts = responsesOf(row), context = contextOfRow(row);
  const group = { key: row.key ?? key, ...context, tools: row.tools, templated: row.templated, responses: texts, step: row.meta?.step ?? row.step };
  if (!row.scores) return group;
  const found = scoredCandidates(texts, row.scores, row.responses);
  return { ...group, ...found, model: row.reward_model };
}

function contextOfRow(row) {
  if (row.messages && !row.chosen && !row.responses && row.messages.at(-1)?.role === "assistant") return { messages: asMessages(row.messages.slice(0, -1)) };
  if (row.messages) return { messages: asMessages(row.messages) };
  if (Array.isArray(row.prompt)) return { messages: asMessages(row.prompt) };
  if (row.prompt !== undefined && row.prompt !== null) return row.reward_model || row.templated ? { prompt: row.prompt } : { messages: [{ role: "user", content: row.prompt }] };
  if (Array.isArray(row.chosen)) return { messages: asMessages(row.chosen.slice(0, -1)) };
  throw new Error("a row needs 'messages' or 'prompt'");
}

function asMessages(messages) {
  for (const message of messages)
    if (typeof message?.role !== "string") throw new Error("a message needs 'role' and 'content'");
  return messages;
}

function responsesOf(row) {
  const list = row.responses ?? row.completions ?? (row.chosen !== undefined ? [row.chosen, row.rejected] : row.completion !== undefined ? [row.completion] : row.response !== undefined ? [row.response] : null);
  if (list) return list.map(responseText);
  const last = row.messages?.at(-1);
  return last?.role === "assistant" ? [contentOf(last)] : [];
}

function responseText(one) {
  if (typeof one === "string") return one;
  if (Array.isArray(one)) return contentOf(one.at(-1));
  return typeof one?.text === "string" ? one.text : contentOf(one ?? {});
}

/** The candidates of scored responses; those that have an error in place of scores apart. */
function scoredCandidates(texts, scores, responses = []) {
  const candidates = [], failed = [];
  scores.forEach((score, place) => {
    if (score.error) { failed.push({ place, message: score.error.message ?? score.error.type }); return; }
    const verdict = responses?.[place]?.verdict ?? responses?.[place]?.label;
    candidates.push({ ...score, place, text: texts[place], text_read: score.text, notes: verdict === undefined ? [] : [`judged: ${verdict}`] });
  });
  return { candidates, failed };
}

/** Whatever was pasted or loaded: JSON, JSON lines, or candidates between lines of ---. */
function readGroups(text) {
  const trimmed = text.replace(/^\uFEFF/, "").trim();
  if (!trimmed) throw new Error("there is nothing to read");
  if (!/^[[{]/.test(trimmed)) return [{ responses: trimmed.split(/^\s*---+\s*$/m).map((one) => one.trim()).filter(Boolean) }];
  let rows;
  try {
    const whole = JSON.parse(trimmed);
    rows = whole.items ?? (Array.isArray(whole) && whole[0]?.role === undefined ? whole : [whole]);
  } catch {
    rows = trimmed.split(/\r?\n/).filter((line) => line.trim()).map((line, number) => {
      try { return JSON.parse(line); } catch { throw new Error(`line ${number + 1} is not JSON`); }
    });
  }
  return rows.map((row, number) => groupOfRow(row, `row ${number + 1}`));
}
