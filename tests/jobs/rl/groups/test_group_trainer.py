"""Prompts computed once give TRL's own log-probabilities, loss, gradients and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from candor.jobs.generator.groups import split_opening
from tests.tiny import tiny_policy, tiny_tokenizer

pytestmark = pytest.mark.trl

GROUP, PROMPTS, TOKENS = 4, 3, 6
TEXTS = ("What is the sea?", "Is the poem good, or is it not?", "Yes?")


def reward(completions: list[Any], **others: Any) -> list[float]:
    """Something that differs between the responses to a prompt."""
    return [float(len(one[0]["content"]) % 7) for one in completions]


def trainer(kind: str, folder: Path, *, opening: str = "", lora: bool = False) -> Any:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    from candor.jobs.rl.groups.trainer import GroupTrainer

    prompts: list[Any] = [[{"role": "user", "content": text}] for text in TEXTS]
    if opening:
        prompts = [[*prompt, {"role": "assistant", "content": opening}] for prompt in prompts]
    tiny_policy().save_pretrained(folder / "policy")  # TRL reads its reference from there
    given: dict[str, Any] = {
        "model": AutoModelForCausalLM.from_pretrained(folder / "policy", dtype=torch.float32),
        "reward_funcs": reward,
        "args": GRPOConfig(
            output_dir=str(folder),
            max_steps=2,
            per_device_train_batch_size=GROUP * PROMPTS,
            num_generations=GROUP,
            max_completion_length=TOKENS,
            temperature=0.7,
            learning_rate=1e-2,
            beta=0.1,
            seed=3,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        "train_dataset": Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
        "processing_class": tiny_tokenizer(),
        "peft_config": LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        if lora
        else None,
    }
    if kind == "trl":
        return GRPOTrainer(**given)
    return GroupTrainer(end_ids=frozenset({3}), **given)


def responses() -> dict[str, Tensor]:
    """TRL's batch after sampling: shuffled responses of different lengths to padded prompts."""
    rng = torch.Generator().manual_seed(1)
    lengths = (5, 9, 2)
    rows = [prompt for prompt in range(PROMPTS) for _ in range(GROUP)]
    order = torch.randperm(len(rows), generator=rng).tolist()
    own = [torch.randint(4, 300, (n,), generator=rng) for n in lengths]
    prompts, prompt_mask, completions, mask = [], [], [], []
    for place in order:
        ids = own[rows[place]]
        prompts.append(torch.cat([torch.ones(9 - len(ids), dtype=torch.long), ids]))
        prompt_mask.append((torch.arange(9) >= 9 - len(ids)).long())
        length = 1 + place % TOKENS
        completions.append(torch.randint(4, 300, (TOKENS,), generator=rng))
        mask.append((torch.arange(TOKENS) < length).long())
        completions[-1][length:] = 1
    # Three responses to one prompt are equal, as short answers often are.
    twins = [at for at, place in enumerate(order) if rows[place] == 1][:3]
    for at in twins[1:]:
        completions[at], mask[at] = completions[twins[0]].clone(), mask[twins[0]].clone()
    loss_mask = torch.stack(mask)
    return {
        "prompt_ids": torch.stack(prompts),
        "prompt_mask": torch.stack(prompt_mask),
        "completion_ids": torch.stack(completions),
        "completion_mask": loss_mask,
        "advantages": torch.randn(len(rows), generator=rng),
        "num_items_in_batch": loss_mask.sum(),
        "ref_per_token_logps": -torch.rand(loss_mask.shape, generator=rng) * 5,
    }


def loss_and_gradients(one: Any) -> tuple[Tensor, list[Tensor], dict[str, list[float]]]:
    one.model.train()
    one.model.zero_grad()
    one.current_gradient_accumulation_steps = 1
    loss = one._compute_loss(one.model, responses())
    loss.backward()
    gradients = [p.grad.clone() for p in one.model.parameters() if p.requires_grad]
    return loss.detach(), gradients, dict(one._metrics["train"])


@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "adapter"])
def test_loss_gradients_and_metrics_are_trls(tmp_path: Path, lora: bool) -> None:
    torch.manual_seed(0)
    own = trainer("trl", tmp_path, lora=lora)
    shared = trainer("group", tmp_path, lora=lora)
    shared.model.load_state_dict(own.model.state_dict())
    assert shared._shares
    expected, gradients, metrics = loss_and_gradients(own)
    loss, found, reported = loss_and_gradients(shared)
    assert torch.allclose(loss, expected, atol=1e-5)
    assert len(found) == len(gradients) > 0
    for mine, theirs in zip(found, gradients, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    assert any(float(gradient.abs().max()) > 1e-3 for gradient in gradients)
    assert reported.keys() == metrics.keys()
    for name, values in metrics.items():
        assert reported[name] == pytest.approx(values, rel=1e-5, abs=1e-5), name


def test_entropies_and_logps_are_trls_and_nothing_at_padded_places(tmp_path: Path) -> None:
    batch = responses()
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    found = []
    for kind in ("trl", "group"):
        one = trainer(kind, tmp_path)
        logps, entropies, _ = one._get_per_token_logps_and_entropies(
            one.model, ids, mask, TOKENS, compute_entropy=True
        )
        found.append((logps, entropies))
    scored = batch["completion_mask"].bool()
    for own, shared in zip(*found, strict=True):
        assert torch.allclose(own[scored], shared[scored], atol=1e-5)
        assert not shared[~scored].any()


def test_a_model_whose_states_cannot_be_shared_gets_trls_own_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Gemma 2: capped logits."""
    one = trainer("group", tmp_path)
    one.model.config.final_logit_softcapping = 30.0
    from candor.jobs.rl.groups.logps import can_share

    assert not can_share(one.model)
    one._shares = False
    monkeypatch.setattr("candor.jobs.rl.groups.trainer.token_logps", None)
    loss_and_gradients(one)


@pytest.mark.parametrize("kind", ["group", "trl"])
def test_it_trains_and_reports_as_trl_does(tmp_path: Path, kind: str) -> None:
    one = trainer(kind, tmp_path)
    one.train()
    logged = [line for line in one.state.log_history if "step_time" in line]
    assert len(logged) == 2
    for line in logged:
        assert 0 <= line["completions/clipped_ratio"] <= 1
        assert line["completions/max_length"] <= TOKENS
    assert logged[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert logged[1]["kl"] > 1e-4


def test_an_opening_begins_every_response_and_is_not_trained_on(tmp_path: Path) -> None:
    one = trainer("group", tmp_path, opening="It is")
    prompts = [row["prompt"] for row in one.train_dataset]
    ids, _, _ = one._tokenize_prompts(prompts)
    tokenizer = one.processing_class
    for prompt, own in zip(prompts, ids, strict=True):
        context, opening = split_opening(prompt)
        rendered = tokenizer.apply_chat_template(
            context, add_generation_prompt=True, tokenize=False
        )
        assert tokenizer.decode(own).endswith(tokenizer.decode(tokenizer(opening)["input_ids"]))
        assert own == tokenizer(rendered + opening, add_special_tokens=False)["input_ids"]
    drawn = one._generate(prompts)
    assert all(len(completion) <= TOKENS for completion in drawn[1])
