"""TRL's GRPOTrainer with two steps done once per prompt: sampling and the log-probabilities.

Rewards, advantages, clipping, the KL term, the optimiser, logging and checkpoints are TRL's. What
is replaced has no public hook in TRL 1.16, so `tests/jobs/rl/groups` compares samples,
log-probabilities, loss and gradients with TRL's own, and a model whose states cannot be shared
(`can_share`) gets TRL's own steps.

A prompt may end with a message of the assistant. It is the beginning of every response to it: the
policy goes on from there, and is trained on what it adds.
"""

from __future__ import annotations

from typing import Any

import torch
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

from candor.jobs.generator.groups import prompt_ids, sample_groups, split_opening
from candor.jobs.rl.groups.logps import batch_of, can_share, token_logps


class GroupTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer for one process.

    Args:
        end_ids: the tokens that end a response.
        others: TRL's own arguments.
    """

    def __init__(self, *, end_ids: frozenset[int], **others: Any) -> None:
        super().__init__(**others)
        self._end_ids = end_ids
        self._shares = can_share(self._causal(self.model))

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        split = [split_opening(prompt) for prompt in prompts]
        ids = [prompt_ids(self.processing_class, *one) for one in split]
        return ids, None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, n: int, **more: Any
    ) -> tuple[list[list[int]], Any]:
        if self.use_vllm:
            found: tuple[list[list[int]], Any] = super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, n, **more
            )
            return found
        with unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
        ) as model:
            drawn = sample_groups(
                model,
                prompt_ids[::n],  # TRL repeats each prompt n times
                n=n,
                max_tokens=self.max_completion_length,
                temperature=self.temperature,
                end_ids=self._end_ids,
                pad_id=self.processing_class.pad_token_id,
            )
        return drawn, None

    def _generate(self, prompts: list[Any]) -> Any:
        found = super()._generate(prompts)
        mode = "train" if self.model.training else "eval"
        # TRL takes every response without an end token for cut, also those that a stop text ended.
        cut = [ids[-1] not in self._end_ids for ids in found[1]]
        self._metrics[mode]["completions/clipped_ratio"][-1] = sum(cut) / len(cut)
        return found

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **others: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        causal = self._causal(model)
        # Recomputed layers (on a GPU) keep no states that could be shared.
        if not self._shares or (causal.is_gradient_checkpointing and model.training):
            own: tuple[torch.Tensor, torch.Tensor | None, None]
            own = super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                **others,
            )
            return own
        with self.accelerator.autocast():
            logps, entropies = token_logps(
                causal,
                batch_of(input_ids, attention_mask, logits_to_keep),
                self.temperature,
                entropies=compute_entropy,
            )
        return logps, entropies, None

    def _causal(self, model: Any) -> Any:
        """The causal language model inside its wrappers; an adapter stays in its layers."""
        bare = self.accelerator.unwrap_model(model)
        return bare.get_base_model() if hasattr(bare, "get_base_model") else bare
