#!/usr/bin/env bash
# GRPO with verl on the rewards of a Candor server. Written for verl 0.9.1, one node with 8 GPUs.
#
#   pip install candor-client             # in verl's environment: no torch, no server
#   openssl rand -hex 32 > api.key        # on the server's machine; then:
#   candor serve path/or/hub-id --probe probes/sycophancy --kappa sycophancy=1.0 \
#       --host 0.0.0.0 --api-key-file api.key
#   python examples/verl/data.py prompts.jsonl prompts.parquet
#   CANDOR_REWARD_URL=http://reward-host:8000 TRAIN=prompts.parquet examples/verl/grpo.sh
#
# A server's key is CANDOR_API_KEY in the environment of the Ray workers. It must not be in verl's
# configuration, which verl logs. base_reward, penalty and probe/<name> are logged at a validation. A
# sample that cannot be scored within patience_s ends the run with a name, not with 0.
# Use the manager naive (the default) or dapo; rate_limited turns errors into 0.0.
set -euo pipefail

POLICY=${POLICY:-Qwen/Qwen3-8B}
TRAIN=${TRAIN:?parquet of examples/verl/data.py}
VAL=${VAL:-$TRAIN}
URL=${CANDOR_REWARD_URL:-http://127.0.0.1:8000}

REWARD=(
    reward.custom_reward_function.path=pkg://candor.client.verl
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.url="$URL"
    +reward.custom_reward_function.reward_kwargs.patience_s=1800
    reward.reward_manager.name=naive
    reward.num_workers=8
)
DATA=(
    data.train_files="$TRAIN"
    data.val_files="$VAL"
    data.train_batch_size=256
    data.max_prompt_length=1024
    data.max_response_length=1024
    data.filter_overlong_prompts=True
)
ACTOR=(
    actor_rollout_ref.model.path="$POLICY"
    actor_rollout_ref.model.use_remove_padding=True
    actor_rollout_ref.model.enable_gradient_checkpointing=True
    actor_rollout_ref.actor.optim.lr=1e-6
    actor_rollout_ref.actor.ppo_mini_batch_size=64
    actor_rollout_ref.actor.use_dynamic_bsz=True
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=16384
    actor_rollout_ref.actor.use_kl_loss=True
    actor_rollout_ref.actor.kl_loss_coef=0.02
    actor_rollout_ref.actor.kl_loss_type=low_var_kl
)
ROLLOUT=(
    actor_rollout_ref.rollout.name=vllm
    actor_rollout_ref.rollout.n=8
    actor_rollout_ref.rollout.tensor_model_parallel_size=2
    actor_rollout_ref.rollout.gpu_memory_utilization=0.6
    actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=True
    actor_rollout_ref.ref.log_prob_use_dynamic_bsz=True
)
TRAINER=(
    algorithm.adv_estimator=grpo
    algorithm.use_kl_in_reward=False
    trainer.logger='["console"]'
    trainer.project_name=candor
    trainer.experiment_name=grpo
    trainer.n_gpus_per_node=8
    trainer.nnodes=1
    trainer.save_freq=20
    trainer.test_freq=20
    trainer.total_epochs=1
)

exec python3 -m verl.trainer.main_ppo \
    "${REWARD[@]}" "${DATA[@]}" "${ACTOR[@]}" "${ROLLOUT[@]}" "${TRAINER[@]}" "$@"
