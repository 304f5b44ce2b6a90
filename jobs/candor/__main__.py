"""`candor` and `python -m candor`: the table of commands, each imported only when it is called.

So `candor --help` answers without torch, and an installation without a command's packages gets one
line that says what to install. Exit status of a wrong flag or file, in every command: 2.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cyclopts import App


class Command(NamedTuple):
    """Attributes:
    name: words of the command line, with its group first where it has a group.
    extra: what to install for it: 'candor-rewards[extra]'.
    target: its function.
    help: its line in the list of commands.
    """

    name: str
    extra: str
    target: str
    help: str


# fmt: off
COMMANDS = [Command(*row) for row in (
    ("serve", "server", "candor.serve:serve",
     "Serve a reward model with probe penalties over HTTP."),
    ("generate", "jobs", "candor.jobs.rollouts.generate:generate",
     "Sample responses to prompts."),
    ("judge", "jobs", "candor.jobs.grounded.command:judge_rollouts",
     "Judge answers to grounded questions."),
    ("score", "jobs", "candor.jobs.rollouts.score:score",
     "Score sampled responses."),
    ("bon", "jobs", "candor.jobs.rollouts.bon:bon",
     "Best-of-N curves from scored responses."),
    ("inspect", "jobs", "candor.jobs.inspect.command:inspect",
     "Write scored responses as one HTML page, ranked under any lambda."),
    ("pairs", "jobs", "candor.jobs.rollouts.pairs:pairs",
     "Preference pairs for DPO from scored responses."),
    ("rl", "rl", "candor.jobs.rl.flags:rl",
     "Train a policy on the penalised reward (GRPO)."),
    ("generator", "server", "candor.jobs.generator.command:serve_generator",
     "Serve a small language model in OpenAI's chat form, for trials."),
    ("probe train", "lab", "candor.jobs.probe.train:train",
     "Fit a probe on labelled responses."),
    ("probe report", "lab", "candor.jobs.probe.report:report",
     "Write one HTML page of what is known about a probe."),
    ("probe calibrate", "lab", "candor.jobs.probe.calibrate:calibrate_probe",
     "Measure the spreads of R and S that kappa is given in."),
    ("probe null", "lab", "candor.jobs.probe.null:null_probes",
     "Write probes that know nothing, as controls for a real one."),
    ("probe refresh", "lab", "candor.jobs.probe.refresh:refresh",
     "Fit the next version of a probe, on judged rows too."),
    ("probe replace", "lab", "candor.jobs.probe.handover:replace",
     "Hand a probe to a running server."),
    ("data build", "lab", "candor.jobs.data.build:build",
     "Write labelled rows as JSONL."),
    ("data kinds", "lab", "candor.jobs.data.build:kinds",
     "List the kinds of labelled rows and the public data sets."),
    ("data feedback", "lab", "candor.jobs.data.feedback:feedback",
     "Label comments that a policy wrote."),
    ("data prompts", "lab", "candor.jobs.data.prompts:feedback_prompts",
     "Write prompts about the poems of SycophancyEval."),
    ("model convert", "lab", "candor.jobs.model.convert:convert",
     "Make safetensors of a published pickle."),
    ("eval sycophancy", "lab", "candor.jobs.sycophancy.job:eval_sycophancy",
     "Measure how far a policy flatters, alone or with best-of-N."),
    ("eval feedback", "lab", "candor.jobs.sycophancy.feedback_job:eval_feedback",
     "The same measurement on comments drawn and scored before."),
    ("audit tilt", "lab", "candor.jobs.rollouts.audit_tilt:audit_tilt",
     "Measure how far R favours responses with a property."),
)]
GROUPS = {
    "probe": "Train and describe probes.",
    "data": "Labelled rows for probe training.",
    "model": "Reward models as Candor reads them.",
    "eval": "Measure how far a policy flatters.",
    "audit": "Measure what a reward model favours.",
}
# fmt: on


def main() -> None:
    """Entry point of the `candor` script."""
    try:
        from cyclopts import CycloptsError, UnknownCommandError

        from candor import logs
        from candor.flags import UsageError
        from candor.variables import forget_empty, forget_service_links
    except ModuleNotFoundError as error:
        sys.exit(missing(error))
    logs.configure("WARNING")  # stdout is for results; `serve` turns more on
    forget_service_links()
    forget_empty()
    try:
        command, arguments, _ = build_app().parse_args(print_error=False, exit_on_error=False)
        sys.exit(command(*arguments.args, **arguments.kwargs))
    except UnknownCommandError as error:
        # The exception's own message would import every command.
        word, *_ = error.unused_tokens or [""]
        wrong(unknown(word, sys.argv[1:]))
    except (CycloptsError, UsageError) as error:
        wrong(str(error))
    except ImportError as error:
        # cyclopts wraps what a command's module raises when it is imported.
        absent = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if not isinstance(absent, ModuleNotFoundError) or is_ours(absent):
            raise
        sys.exit(missing(absent))


def build_app() -> App:
    """The command line: every command, in its group."""
    from cyclopts import App

    from candor.variables import configs
    from candor.version import VERSION

    app = App(
        name="candor",
        help="A reward server that takes flattery out of the reward: R - lambda * S.",
        version=VERSION,
        config=configs(),
    )
    groups = {name: App(name=name, help=text) for name, text in GROUPS.items()}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        home = groups[group] if group else app
        home.command(command.target, name=name, help=command.help)
    for sub in groups.values():
        app.command(sub)
    return app


def wrong(message: str) -> None:
    """Say on one line of stderr what is wrong with the command line, and exit with status 2."""
    print("candor:", " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


def unknown(word: str, arguments: list[str]) -> str:
    """The message for a word that is no command, with the nearest command."""
    from difflib import get_close_matches

    group = f"{arguments[0]} " if arguments[0] in GROUPS else ""
    names = [command.name for command in COMMANDS if command.name.startswith(group)]
    words = dict.fromkeys(name.removeprefix(group).partition(" ")[0] for name in names)
    near = get_close_matches(word, words, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(words)}"
    return f"no command {group}{word}; {hint}"


def is_ours(error: ModuleNotFoundError) -> bool:
    """Whether the missing module is Candor's own, so that no package can bring it."""
    return (error.name or "").partition(".")[0] == "candor"


def missing(error: ModuleNotFoundError) -> str:
    """What to install for the command that was called."""
    called = f"{' '.join(sys.argv[1:3])} "
    for command in COMMANDS:
        if called.startswith(f"{command.name} "):
            break
    else:
        command = COMMANDS[0]
        called = ""
    name = f"candor {command.name}" if called else "candor"
    return (
        f"{name}: packages are missing: pip install 'candor-rewards[{command.extra}]' "
        f"(no module {error.name!r})"
    )


if __name__ == "__main__":
    main()
