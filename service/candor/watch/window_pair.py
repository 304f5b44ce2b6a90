"""`WindowPair`: a reference window and a current window over the same columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from candor.watch.drift_reference import WindowRows


class WindowPair:
    """Two windows over the answered responses, each response one row of float32.

    The reference window is the first `window` rows, or is given. The current window slides over
    the last `window` rows after that.

    Args:
        columns: the names of a row's numbers.
        reference: [rows, columns], of any length, in place of the first `window` rows.
    """

    def __init__(
        self, columns: Sequence[str], window: int, reference: WindowRows | None = None
    ) -> None:
        self.window = window
        self._columns = tuple(columns)
        self._reference = reference
        self._rows: WindowRows = np.empty((window, len(columns)), dtype=np.float32)
        self._num = 0
        """Rows written to `_rows` since it was empty."""

    @property
    def has_reference(self) -> bool:
        """Whether the reference window is full."""
        return self._reference is not None

    @property
    def is_full(self) -> bool:
        """Whether both windows are full, so that they can be compared."""
        return self.has_reference and self._num >= self.window

    @property
    def num_reference(self) -> int:
        """Rows in the reference window."""
        return self._num if self._reference is None else len(self._reference)

    @property
    def num_current(self) -> int:
        """Rows in the current window."""
        return 0 if self._reference is None else min(self._num, self.window)

    @property
    def num_missing(self) -> int:
        """Rows that must still be recorded before the windows are full."""
        if self._reference is None:
            return 2 * self.window - self._num
        return self.window - self.num_current

    def record(self, row: Sequence[float]) -> bool:
        """Adds one row; returns whether it made the reference window full."""
        self._rows[self._num % self.window] = row
        self._num += 1
        if self._reference is not None or self._num < self.window:
            return False
        self._reference, self._rows = self._rows, np.empty_like(self._rows)
        self._num = 0
        return True

    def restart(self) -> None:
        """Empties both windows, a reference that was given included."""
        self._reference, self._num = None, 0

    def reference(self) -> Mapping[str, NDArray[np.float64]]:
        """The reference window by column, as far as it is full."""
        return self._by_column(
            self._rows[: self._num] if self._reference is None else self._reference
        )

    def current(self) -> Mapping[str, NDArray[np.float64]]:
        """The current window by column."""
        return self._by_column(self._rows[: self.num_current])

    def _by_column(self, rows: WindowRows) -> Mapping[str, NDArray[np.float64]]:
        return dict(zip(self._columns, rows.T.astype(np.float64), strict=True))
