"""The types of Candor's own API: request and answer of `POST /v1/rewards` (docs/api.md).

The module imports nothing but pydantic, so that a trainer's environment can use it. The client
parses answers with these classes. The server parses requests with them, strictly, and stops at the
first error in a list (`FailFast`): by default pydantic reports and repeats every wrong item, which
makes an answer 51 times as long as the request.

Unknown fields are refused: a mistyped `penaltys` that is ignored would be a wrong reward.
"""

from candor.client.schema.answer import (
    PARTS,
    Combine,
    ErrorDetail,
    ErrorEnvelope,
    Method,
    ModelInfo,
    ProbeReading,
    ProbeVersion,
    ReadText,
    ResponseReward,
    RewardResponse,
    RewardResult,
    RewardWarning,
    Timings,
    Token,
    Usage,
)
from candor.client.schema.message import (
    MAX_VALUES,
    OTHER_FIELDS,
    REASONING_FIELDS,
    TEXT_PARTS,
    Content,
    Finite,
    Message,
    Objects,
    Role,
    TextPart,
    Wire,
    finite_objects,
    text_or_parts,
)
from candor.client.schema.request import (
    MAX_ITEMS,
    MAX_PENALTIES,
    MAX_RESPONSES,
    ClosedForm,
    PenaltyOverride,
    Reply,
    RewardItem,
    RewardRequest,
    few_penalties,
    refuse_wrong_context,
    text_or_message,
)

__all__ = [
    "MAX_ITEMS",
    "MAX_PENALTIES",
    "MAX_RESPONSES",
    "MAX_VALUES",
    "OTHER_FIELDS",
    "PARTS",
    "REASONING_FIELDS",
    "TEXT_PARTS",
    "ClosedForm",
    "Combine",
    "Content",
    "ErrorDetail",
    "ErrorEnvelope",
    "Finite",
    "Message",
    "Method",
    "ModelInfo",
    "Objects",
    "PenaltyOverride",
    "ProbeReading",
    "ProbeVersion",
    "ReadText",
    "Reply",
    "ResponseReward",
    "RewardItem",
    "RewardRequest",
    "RewardResponse",
    "RewardResult",
    "RewardWarning",
    "Role",
    "TextPart",
    "Timings",
    "Token",
    "Usage",
    "Wire",
    "few_penalties",
    "finite_objects",
    "refuse_wrong_context",
    "text_or_message",
    "text_or_parts",
]
