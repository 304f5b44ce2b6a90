#!/usr/bin/env bash
# REINFORCE++ baseline with OpenRLHF on the rewards of a Candor server. Written for OpenRLHF 0.11.2,
# one node with 8 GPUs.
#
#   openssl rand -hex 32 > api.key        # on the server's machine; then:
#   candor serve path/or/hub-id --probe probes/sycophancy --kappa sycophancy=1.0 \
#       --host 0.0.0.0 --api-key-file api.key
#   CANDOR_REWARD_URL=http://any:KEY@reward-host:8000 PROMPTS=prompts.jsonl examples/openrlhf/reinforce.sh
#
# Prompts are JSON lines with `messages`. reward, base_reward, penalty and score_<probe> are logged.
#
# OpenRLHF sends text with the policy's chat template applied. A reward model with another template
# needs `candor serve --turn-marker TEXT`, the text that the policy's template puts before a reply.
#
# OpenRLHF asks five times, a second apart, and then ends the run. PATIENT=1 asks through
# patient_reward.py, which waits while the server restarts (it needs `pip install candor-client` in
# OpenRLHF's environment). A server's key is given as PATIENT=1 and CANDOR_API_KEY, or as
# http://any:KEY@reward-host:8000 in the URL.
set -euo pipefail

POLICY=${POLICY:-Qwen/Qwen3-8B}
PROMPTS=${PROMPTS:?JSON lines with messages}
OUT=${OUT:-runs/openrlhf}
URL=${CANDOR_REWARD_URL:-http://127.0.0.1:8000}
REWARD=$URL/get_reward
if [ -n "${PATIENT:-}" ]; then
    export CANDOR_REWARD_URL=$URL
    REWARD=$(cd "$(dirname "$0")" && pwd)/patient_reward.py
fi

exec python3 -m openrlhf.cli.train_ppo_ray \
    --reward.remote_url "$REWARD" \
    --data.prompt_dataset "$PROMPTS" \
    --data.input_key messages \
    --data.apply_chat_template \
    --data.max_len 4096 \
    --actor.model_name_or_path "$POLICY" \
    --actor.num_nodes 1 \
    --actor.num_gpus_per_node 8 \
    --actor.adam.lr 5e-7 \
    --actor.gradient_checkpointing_enable \
    --ref.num_nodes 1 \
    --ref.num_gpus_per_node 8 \
    --vllm.num_engines 4 \
    --vllm.tensor_parallel_size 2 \
    --vllm.gpu_memory_utilization 0.6 \
    --vllm.enable_sleep \
    --train.colocate_all \
    --train.batch_size 512 \
    --train.micro_batch_size 4 \
    --rollout.batch_size 64 \
    --rollout.n_samples_per_prompt 8 \
    --rollout.max_new_tokens 1024 \
    --algo.advantage.estimator reinforce_baseline \
    --algo.kl.init_coef 0.02 \
    --algo.kl.use_loss \
    --algo.kl.estimator k2 \
    --ds.zero_stage 3 \
    --ds.param_dtype bf16 \
    --ds.enable_sleep \
    --ds.packing_samples \
    --ckpt.output_dir "$OUT" \
    --ckpt.save_hf \
    "$@"
