"""The body of `POST /v1/probes/replace` for a probe."""

from __future__ import annotations

import base64
from typing import Any

import torch
from safetensors.torch import save as tensor_bytes

from candor.probes.artifact import LoadedProbe


def body_of(loaded: LoadedProbe, **card: Any) -> dict[str, Any]:
    probe = loaded.probe
    tensors = {"weight": probe.weight, "bias": torch.tensor(probe.bias)}
    return {
        "card": loaded.card.model_dump(mode="json", exclude_none=True) | card,
        "weights": base64.b64encode(tensor_bytes(tensors)).decode(),
    }
