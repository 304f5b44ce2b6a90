"""What the trainers' routes are told once, by flags, because their bodies cannot say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RewardField = Literal["reward", "base_reward"]
"""Which number a field of an answer carries."""
Truncation = Literal["error", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerRoutes:
    """Options of `candor serve`, group "Trainers' routes"."""

    openrlhf_rewards: RewardField = "reward"
    openrlhf_scores: RewardField = "reward"
    openrlhf_extra_logs: bool = True
    turn_marker: str | None = None
    """What stands before the response in text of another template than the served one."""
    truncation: Truncation = "error"
    """For text over the RM's window, as `truncation` of `/v1/rewards`."""
