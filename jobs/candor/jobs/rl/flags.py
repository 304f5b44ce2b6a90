"""`candor rl`: train a policy against a Candor server, and stop when a guard says so.

    OUT/run.json         what the run is; a rerun with other settings is refused
    OUT/steps.jsonl      a row per step (`candor.jobs.rl.watch`)
    OUT/evals.jsonl      a row per evaluation; its samples and scores are in OUT/evals/
    OUT/labels.jsonl     the judged responses, with --label-rate
    OUT/checkpoints/     the trainer's own
    OUT/policy/          the adapter (or the weights) at the end
    OUT/summary.json     how the run ended; its manifest is written last

Here is only the command. The options are in `candor.jobs.rl.settings`; the job is
`candor.jobs.rl.job`, which loads TRL.
"""

from __future__ import annotations

import importlib.util

from candor.flags import UsageError
from candor.jobs.rl.labels.options import LabelOptions
from candor.jobs.rl.settings import Guards, RunOptions, ServerOptions, TrainingSettings
from candor.jobs.running.exits import Exit, command
from candor.jobs.running.progress import say

NEEDED = ("trl", "peft", "datasets")


TRAINING = TrainingSettings()
GUARDS = Guards()
LABELS = LabelOptions()


@command
def rl(
    options: RunOptions,
    *,
    servers: ServerOptions,
    training: TrainingSettings = TRAINING,
    guards: Guards = GUARDS,
    labels: LabelOptions = LABELS,
) -> Exit:
    """Train a policy by GRPO on the penalised reward. After a kill or an interrupt, the same
    command continues."""

    check_installed()
    # Here, so that a wrong flag is answered without torch and TRL.
    say("importing torch and TRL")
    from candor.jobs.rl.inputs import read_inputs
    from candor.jobs.rl.job import train

    return train(options.out, training, guards, servers, read_inputs(options, servers), labels)


def check_installed() -> None:
    """Raises UsageError where a package of the extra `rl` is missing."""
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"no module {name!r}: pip install 'candor-rewards[rl]' for candor rl")
