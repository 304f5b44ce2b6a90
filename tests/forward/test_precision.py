"""float32 in the place of a 16-bit dtype that a CPU has no kernels for, and only then."""

from __future__ import annotations

import pytest
import torch

from candor.forward import precision
from candor.forward.precision import cpu_dtype


@pytest.mark.parametrize("wanted", [torch.bfloat16, torch.float16])
def test_a_16_bit_dtype_is_used_where_the_cpu_has_it(
    wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(precision._SUPPORTED, wanted, lambda: True)
    assert cpu_dtype(wanted) is wanted
    monkeypatch.setitem(precision._SUPPORTED, wanted, lambda: False)
    assert cpu_dtype(wanted) is torch.float32


@pytest.mark.parametrize("wanted", [torch.float32, torch.float64])
def test_wider_dtypes_are_left_alone(wanted: torch.dtype) -> None:
    assert cpu_dtype(wanted) is wanted


def test_this_cpu_is_asked_and_answers() -> None:
    assert cpu_dtype(torch.bfloat16) in (torch.bfloat16, torch.float32)
    assert cpu_dtype(torch.float16) in (torch.float16, torch.float32)
