#!/bin/sh
# Best-of-N as a job: draw candidates, score them, choose. Each step goes on where it was stopped.
set -eu
candor generate --prompts "$PROMPTS" --out "$OUT/rollouts.jsonl" \
  --generator-url "$GENERATOR_URL" --generator-model "$GENERATOR_MODEL" --api-key-file "$GENERATOR_API_KEY_FILE" \
  --n "${N:-16}" --temperature "${TEMPERATURE:-0.8}" --max-tokens "${MAX_TOKENS:-60}" --seed "${SEED:-0}"
candor score --rollouts "$OUT/rollouts.jsonl" --out "$OUT/scored.jsonl" \
  --reward-url "$REWARD_URL" --api-key-file "$API_KEY_FILE"
candor bon --scored "$OUT/scored.jsonl" --out "$OUT/bon.json"
