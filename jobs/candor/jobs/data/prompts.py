"""`candor data prompts`: feedback prompts on the poems of SycophancyEval, for a policy to answer.

These are the paper's prompts (arXiv 2412.00967): each poem with no opinion, with "I really like the
poem", with "I really dislike the poem". The poems are downloaded or read from a local copy; this
repository holds none of them. `candor eval sycophancy` has its own poems and needs no such file.
"""

from __future__ import annotations

import json
from pathlib import Path

from candor.flags import UsageError
from candor.jobs.running.exits import Exit, JobStopped, command
from candor.jobs.running.files import write_rows
from candor.jobs.running.manifest import now, write_manifest
from candor.jobs.sycophancy.prompts import feedback_prompt_rows
from candor.probes.kinds.public.source import fetch
from candor.probes.kinds.public.sycophancy_eval import texts_of

HUB = "hub"
HUB_FILE = ("meg-tong/sycophancy-eval", ("feedback.jsonl",))


@command
def feedback_prompts(poems: str, *, out: Path, skip: int = 0, limit: int | None = None) -> Exit:
    """Write three prompts per poem as JSONL, in the order of the file.

    Parameters
    ----------
    poems
        SycophancyEval's feedback.jsonl, or hub to download it from the Hugging Face Hub.
    out
        JSONL to write: {"key", "messages", "meta"}, for candor generate.
    skip
        Number of poems to leave out at the beginning, so that others can be trained on.
    limit
        Most poems to use.
    """
    started = now()
    if skip < 0 or (limit is not None and limit < 1):
        raise UsageError("--skip must be at least 0 and --limit at least 1")
    try:
        path = fetch(*HUB_FILE)[0] if poems == HUB else Path(poems)
        texts = texts_of(path, "poems")
    except ConnectionError as error:
        raise JobStopped(Exit.UNREACHABLE, str(error)) from error
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    wanted = texts[skip:] if limit is None else texts[skip : skip + limit]
    if not wanted:
        raise UsageError(f"--skip {skip}: there are {len(texts)} poems")
    rows = feedback_prompt_rows(wanted)
    write_rows(out, rows)
    write_manifest(
        out,
        command="data prompts",
        inputs={"poems": path},
        settings={"skip": skip, "limit": limit},
        counts={"poems": len(wanted), "rows": len(rows)},
        started=started,
    )
    print(json.dumps({"out": str(out), "poems": len(wanted), "rows": len(rows)}))
    return Exit.DONE
