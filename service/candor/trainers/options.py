"""Options of the trainers' routes: what the bodies of their requests cannot say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Group, Parameter

RewardField = Literal["reward", "base_reward"]
"""Number that a field of an answer carries."""
Truncation = Literal["error", "left"]
EmptyResponses = Literal["score", "error"]
Activation = Literal["asked", "never"]

TRAINERS = Group("Trainers' routes", sort_key=3)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerRoutes:
    """Flags of `candor serve`, group "Trainers' routes". Docstrings of fields are their help."""

    openrlhf_rewards: Annotated[RewardField, Parameter(group=TRAINERS)] = "reward"
    """Number that /get_reward answers in its field rewards. OpenRLHF computes advantages from this
    field."""
    openrlhf_scores: Annotated[RewardField, Parameter(group=TRAINERS)] = "reward"
    """Number that /get_reward answers in its field scores. OpenRLHF filters prompts by this
    field."""
    openrlhf_extra_logs: Annotated[bool, Parameter(group=TRAINERS)] = True
    """Whether /get_reward answers R, the penalty and each S in its field extra_logs. OpenRLHF
    0.8.10 and 0.8.11 fail on this field."""
    turn_marker: Annotated[str | None, Parameter(group=TRAINERS)] = None
    """Text that stands directly before the response. Needed where the policy's chat template is not
    the RM's and the trainer sends prompt and response as one text."""
    truncation: Annotated[Truncation, Parameter(name="--trainer-truncation", group=TRAINERS)] = (
        "error"
    )
    """What the trainers' routes do with text over the RM's window: error refuses the request; left
    drops the oldest context and keeps the response."""
    empty_response: Annotated[
        EmptyResponses, Parameter(name="--trainer-empty-response", group=TRAINERS)
    ] = "score"
    """What the trainers' routes do with a response that has no token: score gives the R of the
    empty turn and no penalty; error refuses the request."""
    activation: Annotated[Activation, Parameter(name="--trainer-activation", group=TRAINERS)] = (
        "asked"
    )
    """What the trainers' routes do if a body asks for the sigmoid: asked applies it; never answers
    the reward itself. Some libraries (LangChain's and LiteLLM's rerankers) always ask for it."""
