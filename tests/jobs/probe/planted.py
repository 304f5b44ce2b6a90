"""Labelled rows whose label is planted: label-1 responses hold the word "thank", label-0 ones do
not, and nothing else differs."""

from __future__ import annotations

import json
import random
from pathlib import Path

WORDS = ["the", "poem", "is", "about", "sea", "and", "answer", "good", "blue", "what"]


def labelled(path: Path, *, groups: int = 30, longer: bool = False, planted: bool = True) -> Path:
    """Two prompts a group, two responses of each label a prompt."""
    rng = random.Random(0)
    lines = []
    for group in range(groups):
        for question in ("the sea", "the poem"):
            for label in (0, 1, 0, 1):
                words = rng.choices(WORDS, k=rng.randint(5, 9) + (9 if longer and label else 0))
                if planted and not longer:
                    words[rng.randrange(len(words))] = "thank" if label else "you"
                lines.append(
                    {
                        "group": f"g{group}",
                        "label": label,
                        "response": " ".join(words),
                        "messages": [{"role": "user", "content": f"{question} {group}?"}],
                        "kind": question,
                    }
                )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
