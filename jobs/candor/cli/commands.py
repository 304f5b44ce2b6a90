"""The table of commands, in the order in which a reader needs them.

Nothing is imported for a row: a command's module is imported when the command is called. `--help`,
shell completion and docs/options.md are made of `options.json`, which `candor.cli.reference` writes
from this table and from the commands' own options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cyclopts import App


class Command(NamedTuple):
    """Attributes:
    name: words of the command line, with its group first where it has a group.
    section: heading in the list of commands.
    extra: what to install for it: 'candor-rewards[extra]'.
    target: its function.
    help: its line in the list of commands.
    example: a command line without `candor NAME`.
    page: the page of the documentation that explains it.
    """

    name: str
    section: str
    extra: str
    target: str
    help: str
    example: str
    page: str


SERVE = "Serve a reward model"
SCORE = "Draw, score and choose responses"
PROBE = "Make a probe"
MEASURE = "Measure flattery"
TRAIN = "Train a policy"
HELPERS = "Around it"

# fmt: off
COMMANDS = [Command(*row) for row in (
    ("serve", SERVE, "server", "candor.serve:serve",
     "Serve a reward model with probe penalties over HTTP.",
     "path/to/model --probe probes/sycophancy --kappa sycophancy=1", "docs/api.md"),
    ("check", SERVE, "jobs", "candor.jobs.check.command:check",
     "Send a trainer's own requests to a server, and say what the trainer would see.",
     "--trainer openrlhf http://127.0.0.1:8000", "docs/trainers/index.md"),
    ("env", SERVE, "jobs", "candor.cli.environment:env",
     "Print the versions, the hardware and the settings that a bug report needs.",
     "", "docs/stack.md"),
    ("generate", SCORE, "jobs", "candor.jobs.rollouts.generate:generate",
     "Sample responses to prompts.",
     "prompts.jsonl --out rollouts.jsonl --generator-url http://127.0.0.1:8001 "
     "--generator-model NAME", "README.md"),
    ("score", SCORE, "jobs", "candor.jobs.rollouts.score:score",
     "Score sampled responses.",
     "rollouts.jsonl --out scored.jsonl --reward-url http://127.0.0.1:8000", "README.md"),
    ("bon", SCORE, "jobs", "candor.jobs.rollouts.bon:bon",
     "Best-of-N curves from scored responses.",
     "scored.jsonl --out bon.json --n 1,4,16", "docs/evaluation.md"),
    ("pairs", SCORE, "jobs", "candor.jobs.rollouts.pairs:pairs",
     "Preference pairs for DPO from scored responses.",
     "scored.jsonl --out pairs.jsonl", "README.md"),
    ("inspect", SCORE, "jobs", "candor.jobs.inspect.command:inspect",
     "Write scored responses as one HTML page, ranked under any lambda.",
     "scored.jsonl --out scored.html", "docs/api.md"),
    ("data convert", SCORE, "jobs", "candor.jobs.data.convert:convert_rows",
     "Write rows of one form in another: Candor's, TRL's, OpenAI's batch.",
     "preferences.parquet --to trl-preference --out preferences.jsonl", "docs/formats.md"),
    ("data questions", SCORE, "jobs", "candor.jobs.grounded.asking:question_prompts",
     "Write questions whose right answer stands in the prompt.",
     "--out prompts.jsonl", "docs/evaluation.md"),
    ("judge", SCORE, "jobs", "candor.jobs.grounded.command:judge_rollouts",
     "Judge answers to grounded questions.",
     "rollouts.jsonl --out judged.jsonl", "docs/evaluation.md"),
    ("data build", PROBE, "lab", "candor.jobs.data.build:build",
     "Write labelled rows as JSONL.",
     "--out rows.jsonl --seed 0", "docs/train-a-probe.md"),
    ("data kinds", PROBE, "lab", "candor.jobs.data.build:kinds",
     "List the kinds of labelled rows and the public data sets.",
     "", "docs/train-a-probe.md"),
    ("data feedback", PROBE, "lab", "candor.jobs.data.feedback:feedback",
     "Label comments that a policy wrote.",
     "rollouts.jsonl --out rows.jsonl", "examples/replicate_paper.md"),
    ("data prompts", PROBE, "lab", "candor.jobs.data.prompts:feedback_prompts",
     "Write prompts about the poems of SycophancyEval.",
     "hub --out prompts.jsonl", "examples/replicate_paper.md"),
    ("probe train", PROBE, "lab", "candor.jobs.probe.train:train",
     "Fit a probe on labelled responses.",
     "rows.jsonl --model path/or/hub-id --out probes/mine --name mine --trait 'The response "
     "flatters.'", "docs/train-a-probe.md"),
    ("probe calibrate", PROBE, "lab", "candor.jobs.probe.calibrate:calibrate_probe",
     "Measure the spreads of R and S that kappa is given in.",
     "probes/mine --rollouts rollouts.jsonl --model path/or/hub-id", "docs/choosing-lambda.md"),
    ("probe report", PROBE, "lab", "candor.jobs.probe.report:report",
     "Write one HTML page of what is known about a probe.",
     "probes/mine --out probe.html", "docs/train-a-probe.md"),
    ("probe null", PROBE, "lab", "candor.jobs.probe.null:null_probes",
     "Write probes that know nothing, as controls for a real one.",
     "probes/mine --kind random-direction --rollouts rollouts.jsonl --model path/or/hub-id --out "
     "nulls", "docs/evaluation.md"),
    ("probe refresh", PROBE, "lab", "candor.jobs.probe.refresh:refresh",
     "Fit the next version of a probe, on judged rows too.",
     "probes/mine --labels labels.jsonl --data rows.jsonl --model path/or/hub-id --out "
     "probes/next", "docs/rl.md"),
    ("probe replace", PROBE, "lab", "candor.jobs.probe.handover:replace",
     "Hand a probe to a running server.",
     "probes/next --reward-url http://127.0.0.1:8000", "docs/api.md"),
    ("probe push", PROBE, "lab", "candor.jobs.hub.command:push",
     "Put a probe into a repository on the Hugging Face Hub.",
     "probes/mine --to org/name", "docs/formats.md"),
    ("probe pull", PROBE, "lab", "candor.jobs.hub.command:pull",
     "Copy a probe from the Hugging Face Hub.",
     "org/name@COMMIT --out probes/mine", "docs/formats.md"),
    ("eval sycophancy", MEASURE, "lab", "candor.jobs.sycophancy.job:eval_sycophancy",
     "Measure how far a policy flatters, alone or with best-of-N.",
     "--generator-url http://127.0.0.1:8001 --generator-model NAME --out runs/eval",
     "docs/evaluation.md"),
    ("eval feedback", MEASURE, "lab", "candor.jobs.sycophancy.feedback_job:eval_feedback",
     "The same measurement on comments drawn and scored before.",
     "scored.jsonl --out runs/eval", "docs/evaluation.md"),
    ("audit tilt", MEASURE, "lab", "candor.jobs.rollouts.audit_tilt:audit_tilt",
     "Measure how far R favours responses with a property.",
     "scored.jsonl --flag 'contains:you are right' --out tilt.json", "README.md"),
    ("rl", TRAIN, "rl", "candor.jobs.rl.flags:rl",
     "Train a policy on the penalised reward (GRPO).",
     "path/to/policy --prompts prompts.jsonl --out runs/rl --reward-url http://127.0.0.1:8000",
     "docs/rl.md"),
    ("generator", HELPERS, "server", "candor.jobs.generator.command:serve_generator",
     "Serve a small language model in OpenAI's chat form, for trials.",
     "path/to/model --port 8001", "README.md"),
    ("model convert", HELPERS, "lab", "candor.jobs.model.convert:convert",
     "Make safetensors of a published pickle.",
     "downloads/Starling-RM-7B-alpha --out models/starling --template starling", "docs/models.md"),
    ("completion", HELPERS, "jobs", "candor.cli.completion:completion",
     "Print the completion script for a shell.",
     "bash > ~/.local/share/bash-completion/completions/candor", "docs/options.md"),
)]
GROUPS = {
    "data": "Labelled rows for probe training, prompts, and rows in other forms.",
    "probe": "Train and describe probes.",
    "eval": "Measure how far a policy flatters.",
    "audit": "Measure what a reward model favours.",
    "model": "Reward models as Candor reads them.",
}
# fmt: on


def build_app() -> App:
    """The command line: every command, in its group.

    It prints no help of its own: `candor.cli.help` does.
    """
    from cyclopts import App, Parameter

    from candor.version import VERSION

    app = App(
        name="candor",
        version=VERSION,
        version_flags=(),
        help_flags=(),
        # An option that may be repeated has no `--empty-...` beside it.
        default_parameter=Parameter(negative_iterable=()),
    )
    groups = {
        name: App(name=name, help=text, help_flags=(), version_flags=())
        for name, text in GROUPS.items()
    }
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        home = groups[group] if group else app
        home.command(command.target, name=name, help=command.help)
    for sub in groups.values():
        app.command(sub)
    return app
