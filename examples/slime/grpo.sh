#!/usr/bin/env bash
# GRPO with slime on the rewards of a Candor server. Written for slime v0.3.1 and Qwen3-4B, one node
# with 8 GPUs; run it in slime's image, with a Ray head running.
#
#   openssl rand -hex 32 > api.key        # on the server's machine; then:
#   candor serve path/or/hub-id --probe probes/sycophancy --kappa sycophancy=1.0 \
#       --host 0.0.0.0 --api-key-file api.key
#   CANDOR_REWARD_URL=http://any:KEY@reward-host:8000 PROMPTS=prompts.jsonl SLIME=/root/slime examples/slime/grpo.sh
#
# Prompts are JSON lines with `messages`. /slime/keyed answers with an object; --reward-key picks the
# penalised reward from it. R (the RM's raw score), the penalty and each probe's score S stay on the
# sample, in debug dumps too. Without the flag use /slime, which answers with the number alone.
#
# slime sends the prompt with the policy's chat template applied. A reward model with another
# template needs `candor serve --turn-marker TEXT`, the text that the policy's template puts before a
# reply. For the same reason slime skips the special tokens of the response.
#
# slime asks ten times with waits of up to 30 s, two and a half minutes in all, and then ends the run.
# It sends no header, so a server's key goes into the URL: http://any:KEY@reward-host:8000.
set -euo pipefail

SLIME=${SLIME:-/root/slime}
POLICY=${POLICY:-/root/Qwen3-4B}
PROMPTS=${PROMPTS:?JSON lines with messages}
OUT=${OUT:-runs/slime}
URL=${CANDOR_REWARD_URL:-http://127.0.0.1:8000}

# shellcheck disable=SC1091
source "$SLIME/scripts/models/qwen3-4B.sh"  # MODEL_ARGS

REWARD=(
    --rm-type remote_rm
    --rm-url "$URL/slime/keyed"
    --reward-key reward
    --rollout-skip-special-tokens
)
ROLLOUT=(
    --prompt-data "$PROMPTS"
    --input-key messages
    --apply-chat-template
    --rollout-shuffle
    --num-rollout 200
    --rollout-batch-size 32
    --n-samples-per-prompt 8
    --rollout-max-response-len 1024
    --rollout-temperature 1
    --global-batch-size 256
    --rollout-num-gpus-per-engine 2
    --sglang-mem-fraction-static 0.7
)
TRAIN=(
    --hf-checkpoint "$POLICY"
    --ref-load "${POLICY}_torch_dist"
    --save "$OUT"
    --save-interval 20
    --advantage-estimator grpo
    --use-kl-loss
    --kl-loss-coef 0.02
    --kl-loss-type low_var_kl
    --optimizer adam
    --lr 1e-6
    --lr-decay-style constant
    --tensor-model-parallel-size 2
    --sequence-parallel
    --use-dynamic-batch-size
    --max-tokens-per-gpu 9216
    --attention-backend flash
)

exec python3 "$SLIME/train.py" --actor-num-nodes 1 --actor-num-gpus-per-node 8 --colocate \
    "${MODEL_ARGS[@]}" "${REWARD[@]}" "${ROLLOUT[@]}" "${TRAIN[@]}" "$@"
