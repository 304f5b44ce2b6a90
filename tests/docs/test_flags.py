"""A flag that no command takes is seen: `\\bending\\b` stands in the sources, and is no flag."""

from __future__ import annotations

import pytest

from tests.docs.flags import unknown_flags


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("candor serve m --probe p --no-openrlhf-extra-logs --config f.yaml", set()),
        ("candor serve --ending", {"--ending"}),
        ("candor probe train --data a --model b --kappa 2", {"--kappa"}),
        (".venv/bin/candor bon scored.jsonl --n 4 && .venv/bin/candor score r --out s", set()),
        ("candor bon scored.jsonl --reward-url u", {"--reward-url"}),
        ("candor COMMAND --anything", set()),
    ],
)
def test_a_flag_that_the_command_does_not_take_is_seen(line: str, unknown: set[str]) -> None:
    assert unknown_flags(line) == unknown
