#!/bin/sh
# GRPO against the reward server as a job. After a kill the same command goes on from its last checkpoint.
# Further flags of `candor rl` may follow: docker compose run --rm rl --steps 500 --kappa sycophancy=1
# Without prompts of the user's it trains on questions whose right answer stands in the prompt.
set -eu
if [ -z "$PROMPTS" ]; then
  PROMPTS=$OUT/prompts.jsonl
  [ -s "$PROMPTS" ] || candor data questions --out "$PROMPTS" --per-domain 12 --seed 1 >&2
fi
exec candor rl --policy "$POLICY" --prompts "$PROMPTS" --out "$OUT" --seed "${SEED:-0}" \
  --reward-url "$REWARD_URL" --api-key-file "$API_KEY_FILE" --operator-key-file "$OPERATOR_KEY_FILE" "$@"
