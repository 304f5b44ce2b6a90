"""The package that a trainer installs: clients of the reward server and of a chat server in
OpenAI's form. Adapters for trainers: `trl`, `verl`, `verifiers` and `nemo`."""

from candor.client.errors import (
    ClientError,
    InvalidArguments,
    InvalidReply,
    ModelChanged,
    NotReadyInTime,
    PermanentError,
    RetryableError,
    RewardError,
    Unreachable,
    WrongModel,
)
from candor.client.generator import AsyncGeneratorClient, Completion
from candor.client.retry import Retry
from candor.client.reward import AsyncRewardClient, RewardClient

__all__ = [
    "AsyncGeneratorClient",
    "AsyncRewardClient",
    "ClientError",
    "Completion",
    "InvalidArguments",
    "InvalidReply",
    "ModelChanged",
    "NotReadyInTime",
    "PermanentError",
    "Retry",
    "RetryableError",
    "RewardClient",
    "RewardError",
    "Unreachable",
    "WrongModel",
]
