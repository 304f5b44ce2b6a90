"""`Company`: which texts may share one forward, so that each gets the number it gets alone.

transformers chooses some things once per forward, from its longest text: LongRoPE's frequencies
(short or long) and the frequencies of dynamic NTK, which also stay in the model for the next
forward. The right value is the model's own forward of that text alone, with fresh frequencies. So a
batch is divided into parts whose texts get the same choice, and the rotary embeddings are reset
before every forward.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from candor.forward.head import decoder

Rule = Literal["any", "equal", "none"]
"""What may share a forward: texts of any length, texts of equal length, or no two texts."""


class Company:
    """The forwards of one model, and the texts that may share one.

    Args:
        model: a reward model (`candor.forward.head`).
        rule: `any` for a model that computes a text alike in any company, but for its rotary
            frequencies. The engine's check at start finds models that need another rule.
    """

    def __init__(self, model: nn.Module, rule: Rule = "any") -> None:
        self.rule = rule
        self._trunk = decoder(model)
        self._rotaries = [*_changing(model)]
        self._sides: list[int] = []
        self._dynamic_from: int | None = None
        for module, _, kind, parameters in self._rotaries:
            if "dynamic" in kind:
                lengths = [int(module.original_max_seq_len)]
                lengths += [] if self._dynamic_from is None else [self._dynamic_from]
                self._dynamic_from = min(lengths)
            else:
                self._sides.append(int(parameters["original_max_position_embeddings"]))
        self._sides.sort()

    @property
    def boundaries(self) -> list[int]:
        """Lengths in tokens above which the model chooses other frequencies."""
        return self._sides + ([] if self._dynamic_from is None else [self._dynamic_from])

    @property
    def changes_model(self) -> bool:
        """Whether a forward writes to the model, so that two threads must not run it at once."""
        return bool(self._rotaries)

    @property
    def is_divided(self) -> bool:
        """Whether some texts may not share a forward."""
        return self.rule != "any" or self.changes_model

    def key(self, num_tokens: int) -> tuple[int, int]:
        """Equal for two lengths whose texts may share a forward (not with the rule `none`)."""
        if self.rule != "any":
            return 0, num_tokens
        dynamic = self._dynamic_from is not None and num_tokens > self._dynamic_from
        return bisect_left(self._sides, num_tokens), num_tokens if dynamic else 0

    def parts(self, lengths: Sequence[int]) -> list[list[int]]:
        """The numbers of the texts, one list per forward, in order."""
        if self.rule == "none":
            return [[number] for number in range(len(lengths))]
        if not self.is_divided:
            return [[*range(len(lengths))]]
        parts: dict[tuple[int, int], list[int]] = {}
        for number, length in enumerate(lengths):
            parts.setdefault(self.key(length), []).append(number)
        return [*parts.values()]

    def reset(self) -> None:
        """Gives the rotary embeddings the frequencies that they had before any forward."""
        for module, prefix, _, _ in self._rotaries:
            _reset(module, prefix)

    def run(self, inputs: Mapping[str, Any]) -> Tensor:
        """One forward of the trunk: its output after the final norm, [B, T, hidden]."""
        self.reset()
        output: Tensor = self._trunk(**inputs).last_hidden_state
        return output


def _changing(model: nn.Module) -> Iterator[tuple[Any, str, str, Mapping[str, Any]]]:
    """Every rotary embedding that depends on a forward's longest text: its module, the prefix of
    its attributes (for models with one per layer type), its kind and its parameters."""
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        parameters = getattr(getattr(module, "config", None), "rope_parameters", None)
        if kinds is None or not isinstance(parameters, dict):
            continue
        by_type = (
            {f"{name}_": (kind, parameters[name]) for name, kind in kinds.items()}
            if (isinstance(kinds, dict))
            else {"": (str(kinds), parameters)}
        )
        for prefix, (kind, own) in by_type.items():
            # PhiMoE chooses its scale by length, whatever the kind.
            by_side = kind == "longrope" or own.get("long_mscale") is not None
            if "dynamic" in kind or (by_side and kind != "default"):
                yield module, prefix, kind, own


def _reset(module: Any, prefix: str) -> None:
    """The frequencies as they were before any forward."""
    setattr(module, f"{prefix}inv_freq", getattr(module, f"{prefix}original_inv_freq"))
    setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
    # transformers 5.20 fails on the second long text where this remains with a layer type.
    vars(module).pop(f"{prefix}long_inv_freq", None)
