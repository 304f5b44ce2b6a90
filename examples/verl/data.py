"""Converts JSON lines with `messages` to the parquet that verl reads. verl gives a reward function
the response and `extra_info` only, so the messages are written to `extra_info` too.

    python examples/verl/data.py prompts.jsonl prompts.parquet
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from datasets import Dataset


def main(source: Path, out: Path) -> None:
    with source.open(encoding="utf-8-sig") as lines:
        conversations = [json.loads(line)["messages"] for line in lines if line.strip()]
    rows = [
        {
            "data_source": "candor",
            "prompt": messages,
            "reward_model": {"style": "model", "ground_truth": ""},
            "extra_info": {"index": index, "prompt": messages},
        }
        for index, messages in enumerate(conversations)
    ]
    Dataset.from_list(rows).to_parquet(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
