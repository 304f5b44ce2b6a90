"""False alarms by direction: the shares are those of a count by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from candor.jobs.probe.material import LabelledRows, read_data
from candor.jobs.probe.stress.flagged import flagged_by_direction

KINDS = {"questions": ("wrong", "right", "quoted"), "poems": ("like",)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledRows:
    rows = [
        {
            "group": f"{kind} {number}",
            "kind": kind,
            "label": int(one),
            "prompt": f"{kind} {number} {direction}",
            "response": "yes" if one else "no",
            "direction": direction,
        }
        for kind, directions in KINDS.items()
        for number in range(40)
        for direction in directions
        for one in ((0, 1) if direction in ("wrong", "like") else (0, 0))
    ]
    path = tmp_path_factory.mktemp("flagged") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_data([path], seed=0)


def test_each_direction_is_counted_above_the_threshold_of_its_own_kinds(
    data: LabelledRows,
) -> None:
    test = list(data.split.test.open())
    number = {group: place for place, group in enumerate(sorted(set(data.groups(test))))}

    def score(row: object) -> float:
        place = number.get(row.group, 0)  # type: ignore[attr-defined]
        if row.label:  # type: ignore[attr-defined]
            return 3.0 if row.kind == "questions" else -3.0  # type: ignore[attr-defined]
        high = {"wrong": 0, "right": 2, "quoted": 4, "like": 1}[row.direction]  # type: ignore[attr-defined]
        return 5.0 if place % 4 < high else -5.0

    scores = np.array([score(row) for row in data.rows], dtype=np.float32)
    found = {one["direction"]: one for one in flagged_by_direction(data, scores, test)}
    assert list(found) == ["like", "quoted", "right", "wrong"]
    for direction, one in found.items():
        mine = [i for i in test if data.rows[i].direction == direction and not data.rows[i].label]
        threshold = -3.0 if direction == "like" else 3.0
        by_group = {
            group: np.mean([scores[i] >= threshold for i in mine if data.rows[i].group == group])
            for group in data.groups(mine)
        }
        assert one["threshold"] == threshold
        assert one["num_rows"] == len(mine) > 0
        assert one["num_groups"] == len(by_group)
        assert one["flagged"] == pytest.approx(np.mean(list(by_group.values())))
        assert one["caught"] == 1.0
        assert 0.0 <= one["low"] <= one["flagged"] <= one["high"] <= 1.0
    assert found["wrong"]["flagged"] == 0.0
    assert found["quoted"]["flagged"] == 1.0
    assert 0.0 < found["right"]["flagged"] < 1.0


def test_a_direction_without_rows_of_label_1_beside_it_is_left_out(data: LabelledRows) -> None:
    test = [index for index in data.split.validation if data.rows[index].label == 0]
    assert flagged_by_direction(data, np.zeros(len(data.rows), np.float32), test) == []
