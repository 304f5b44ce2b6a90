"""`candor` and `python -m candor`: sub-commands by name, each imported only when it is called.

So `candor --help` answers without loading torch, and an installation with the client alone gets one
line that says what to install.
"""

from __future__ import annotations

import sys

MISSING = "candor: the command needs the server's packages: pip install 'candor-rewards[server]'"


def main() -> None:
    """Entry point of the `candor` script."""
    try:
        from cyclopts import App
        from cyclopts.config import Env
    except ModuleNotFoundError:
        sys.exit(MISSING)
    from candor import logs
    from candor.version import VERSION

    logs.configure("WARNING")  # stdout is for results; `serve` turns more on

    app = App(
        name="candor",
        help="A reward server that takes flattery out of the reward: R - lambda * S.",
        version=VERSION,
        # One name a flag, whatever the sub-command: --port is CANDOR_PORT.
        config=Env("CANDOR_", command=False),
    )
    app.command("candor.serve:serve", name="serve", help="Serve a reward model over HTTP.")
    app.command(
        "candor.jobs.rollouts.generate:generate",
        name="generate",
        help="Sample responses to prompts.",
    )
    app.command("candor.jobs.rollouts.score:score", name="score", help="Score sampled responses.")
    app.command(
        "candor.jobs.rollouts.bon:bon", name="bon", help="Best-of-N curves from scored responses."
    )
    app.command("candor.jobs.rollouts.pairs:pairs", name="pairs", help="Preference pairs for DPO.")
    app.command(
        "candor.jobs.rl.flags:rl", name="rl", help="Train a policy on the penalised reward (GRPO)."
    )
    app.command(
        "candor.jobs.generator.server:serve_generator",
        name="generator",
        help="Serve a small local generator, OpenAI form, for trying things out.",
    )
    probe = App(name="probe", help="Train probes.")
    probe.command(
        "candor.jobs.probe.train:train", name="train", help="Fit a probe on labelled responses."
    )
    probe.command(
        "candor.jobs.probe.report:report",
        name="report",
        help="One HTML page of what is known of a probe.",
    )
    probe.command(
        "candor.jobs.probe.calibrate:calibrate_probe",
        name="calibrate",
        help="Measure the scale of a penalty on candidates.",
    )
    app.command(probe)
    data = App(name="data", help="Labelled rows for probe training.")
    data.command("candor.jobs.data.build:build", name="build", help="Write labelled rows as JSONL.")
    data.command(
        "candor.jobs.data.build:kinds", name="kinds", help="List the kinds and public sets."
    )
    data.command(
        "candor.jobs.data.feedback:feedback", name="feedback", help="Label a policy's own comments."
    )
    data.command(
        "candor.jobs.data.prompts:feedback_prompts",
        name="prompts",
        help="Prompts on the poems of SycophancyEval.",
    )
    app.command(data)
    model = App(name="model", help="Reward models as Candor reads them.")
    model.command(
        "candor.jobs.model.convert:convert",
        name="convert",
        help="Make safetensors of a published pickle.",
    )
    app.command(model)
    measure = App(name="eval", help="Measure a policy.")
    measure.command(
        "candor.jobs.sycophancy.job:eval_sycophancy",
        name="sycophancy",
        help="How far a policy flatters, alone or with best-of-N.",
    )
    measure.command(
        "candor.jobs.sycophancy.feedback_job:eval_feedback",
        name="feedback",
        help="The same metric on comments drawn and scored before.",
    )
    app.command(measure)
    audit = App(name="audit", help="What a reward model favours.")
    audit.command(
        "candor.jobs.rollouts.audit_tilt:audit_tilt",
        name="tilt",
        help="How far R favours responses with a flag.",
    )
    app.command(audit)
    try:
        app()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in {"candor", "demo", "jobs", "probes", "service"}:
            raise
        sys.exit(f"{MISSING} (no module {error.name!r})")


if __name__ == "__main__":
    main()
