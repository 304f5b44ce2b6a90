"""R is the head in float32: with a bias and without, under a trunk of any dtype.

Where the head sits in whole models, and that it is their own logit, is tested in test_capture.py.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from candor.forward.head import head_logits
from tests.tiny import tiny_llama


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_head_of_any_dtype_is_applied_in_float32(bias: bool, dtype: torch.dtype) -> None:
    model = tiny_llama().to(dtype)
    model.score = nn.Linear(32, 1, bias=bias)  # float32, as candor.models.heads makes it
    hidden = torch.randn(3, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = hidden.float() @ model.score.weight[0] + (model.score.bias if bias else 0.0)
    rewards = head_logits(model, hidden)
    assert rewards.dtype == torch.float32
    assert rewards.shape == (3,)
    assert torch.allclose(rewards, expected, atol=1e-6)


def test_the_bias_is_added() -> None:
    model = tiny_llama()
    model.score = nn.Linear(32, 1)
    model.score.bias.data.fill_(2.5)
    assert head_logits(model, torch.zeros(2, 32)).tolist() == [2.5, 2.5]
