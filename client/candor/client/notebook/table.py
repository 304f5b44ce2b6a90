"""The responses of a reply as rows, one per response, and as a pandas DataFrame.

| column | is |
| --- | --- |
| `item`, `response` | places in the request, from 0 |
| `text` | the response's text, where the reply knows its request |
| `rank`, `base_rank` | place among the item's responses by reward, and by R: 1 is the best |
| `reward`, `base_reward`, `penalty` | `reward == base_reward - penalty` |
| `advantage_penalty`, `screened` | where a probe's method answers them |
| `score/NAME`, `bounded/NAME`, `lambda/NAME` | S, bound(S) and the strength of each probe |
| `num_tokens`, `truncated` | as on the wire |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from candor.client.schema import Message, ResponseReward, RewardRequest, RewardResult


def table_rows(
    results: Sequence[RewardResult], request: RewardRequest | None
) -> list[dict[str, Any]]:
    """One row per response, item by item, in the order of the request.

    Args:
        request: what was asked, for the texts; None leaves them out.
    """
    rows = []
    for number, result in enumerate(results):
        texts = None if request is None else request.items[number].responses
        ranks = ranked([one.reward for one in result.responses])
        base_ranks = ranked([one.base_reward for one in result.responses])
        for place, scored in enumerate(result.responses):
            said = {} if texts is None else {"text": text_of(texts[place])}
            rank = {"rank": ranks[place], "base_rank": base_ranks[place]}
            rows.append({"item": number, "response": place, **said, **rank, **_numbers(scored)})
    return rows


def ranked(values: Sequence[float]) -> list[int]:
    """The rank of each value, 1 for the highest; of equal values the first comes first, as in
    `best`."""
    order = sorted(range(len(values)), key=lambda place: -values[place])
    ranks = {place: rank for rank, place in enumerate(order, start=1)}
    return [ranks[place] for place in range(len(values))]


def text_of(response: str | Message) -> str:
    """The text of a response; of a message, its content's."""
    text = response if isinstance(response, str) else response.text
    return "".join(text) if isinstance(text, tuple) else text or ""


def _numbers(scored: ResponseReward) -> dict[str, Any]:
    probes = {
        f"{field}/{name}": value
        for name, reading in scored.probes.items()
        for field, value in (
            ("score", reading.score),
            ("bounded", reading.bounded),
            ("lambda", reading.lambda_),
        )
    }
    rest = {"num_tokens": scored.num_tokens, "truncated": scored.truncated}
    return {"reward": scored.reward, **scored.parts, **probes, **rest}


def data_frame(rows: Sequence[dict[str, Any]]) -> Any:
    """The rows as a pandas DataFrame.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise ImportError("to_pandas() needs pandas: pip install pandas") from None
    return pandas.DataFrame(list(rows))
