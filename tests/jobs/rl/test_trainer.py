"""What is trained: the layers that were asked for, and one backward pass where a step fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from candor.flags import UsageError
from candor.jobs.rl.settings import TrainingSettings
from tests.jobs.generator.tiny_lm import tiny_lm
from tests.tiny import tiny_tokenizer

pytestmark = pytest.mark.trl


def trained_layers(model: Any) -> set[str]:
    """The layer of each trained weight; a weight outside the layers by its own name."""
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    return {name.partition("layers.")[2].partition(".")[0] or name for name in names}


@pytest.mark.parametrize("rank", [0, 2])
def test_only_the_top_layers_are_trained(rank: int) -> None:
    from peft import get_peft_model

    from candor.jobs.rl.trainer import trained_part

    model: Any = tiny_lm()
    part = trained_part(model, TrainingSettings(lora_rank=rank, train_layers=1))
    assert (part is None) == (rank == 0)
    model = model if part is None else get_peft_model(model, part)
    assert trained_layers(model) == {"1"}
    sizes = [w.numel() for w in model.parameters() if w.requires_grad]
    assert len(sizes) == (14 if rank else 9)  # two matrices of 7 modules; 7 matrices and 2 norms


def test_by_default_every_layer_is_trained_and_more_than_there_are_is_refused() -> None:
    from peft import get_peft_model

    from candor.jobs.rl.trainer import trained_part

    part = trained_part(tiny_lm(), TrainingSettings(lora_rank=2))
    assert trained_layers(get_peft_model(tiny_lm(), part)) == {"0", "1"}
    whole: Any = tiny_lm()
    assert trained_part(whole, TrainingSettings(lora_rank=0)) is None
    assert all(weight.requires_grad for weight in whole.parameters())
    with pytest.raises(UsageError, match="--train-layers 3: the policy has 2 layers"):
        trained_part(tiny_lm(), TrainingSettings(train_layers=3))


def test_a_step_of_short_responses_is_one_pass_and_a_long_one_a_pass_per_prompt(
    tmp_path: Path,
) -> None:
    from candor.jobs.rl.trainer import grpo_config

    for tokens, rows, passes in ((6, 128, 1), (256, 8, 16)):
        settings = TrainingSettings(
            group_size=8, prompts_per_step=16, max_tokens=tokens, generation="transformers"
        )
        config = grpo_config(tmp_path, settings)
        assert config.per_device_train_batch_size == rows
        assert config.gradient_accumulation_steps == passes


def test_a_tokenizer_that_loses_the_space_after_an_opening_is_refused() -> None:
    from candor.jobs.rl.trainer import check_openings

    said = {"role": "user", "content": "What is the sea?"}
    opened = {"messages": [said, {"role": "assistant", "content": "It is"}]}

    class Loses:
        """Decodes as sentencepiece does: without the first space."""

        def __init__(self, tokenizer: Any) -> None:
            self._tokenizer = tokenizer

        def __call__(self, text: str, **options: Any) -> Any:
            return self._tokenizer(text, **options)

        def decode(self, ids: list[int]) -> str:
            return str(self._tokenizer.decode(ids)).lstrip(" ")

    check_openings(tiny_tokenizer(), [opened])
    check_openings(Loses(tiny_tokenizer()), [{"messages": [said]}])
    with pytest.raises(UsageError, match="loses the space"):
        check_openings(Loses(tiny_tokenizer()), [opened])
