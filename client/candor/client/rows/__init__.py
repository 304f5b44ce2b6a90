"""The shared part of the trainers' adapters: a server's address, and one outcome per row.

A row is a context and one response. Rows with equal contexts go to the server as one item, so that
the context is computed once and the closed form sees all responses to it. A row that cannot be
scored (too long, no text, not Unicode, no response at all) fails alone: its outcome is the error,
and the other rows are sent without it. Every other failure is raised, because no row is to blame: a
server that is away, a wrong key or address, another service's answer. A trainer that took such rows
for unscored would train on nothing and call it success.

Not here: what a trainer does with a failed row. TRL takes None. verl, verifiers and NeMo take only
numbers, so their adapters raise the failure (a failed score is never a number).
"""

from candor.client.rows.connections import close
from candor.client.rows.forms import (
    ChatTurn,
    Context,
    MessagesAndTools,
    Reply,
    Row,
    Unscorable,
    context_item,
    message_of,
    response_of,
    tools_of,
    unicode_text,
)
from candor.client.rows.scoring import (
    TEMPLATE_REFUSED,
    blames_row,
    is_surely_of_row,
    refused_places,
    score_item,
)
from candor.client.rows.server import Outcome, RewardServer

__all__ = [
    "TEMPLATE_REFUSED",
    "ChatTurn",
    "Context",
    "MessagesAndTools",
    "Outcome",
    "Reply",
    "RewardServer",
    "Row",
    "Unscorable",
    "blames_row",
    "close",
    "context_item",
    "is_surely_of_row",
    "message_of",
    "refused_places",
    "response_of",
    "score_item",
    "tools_of",
    "unicode_text",
]
