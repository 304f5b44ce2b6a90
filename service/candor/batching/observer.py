"""`Observer`: the batcher's notifications to metrics and logs."""

from __future__ import annotations


class Observer:
    """Receives the batcher's notifications, in the event loop's thread. This class ignores them."""

    def on_batch(
        self, num_items: int, num_tokens: int, num_computed_tokens: int, forward_s: float
    ) -> None:
        """A batch came back from the model."""

    def on_dequeue(self, queue_s: float) -> None:
        """An item's batch begins; the item waited `queue_s` seconds."""

    def on_item_error(self, type: str) -> None:
        """An accepted item failed."""

    def on_refused(self, type: str) -> None:
        """A submission was not accepted."""

    def on_gone(self, num_items: int) -> None:
        """A client left, and `num_items` of its items leave the queue unscored."""
