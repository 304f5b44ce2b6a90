"""align-anything's `POST /get_reward`: OpenRLHF's path, with `prompts` and `responses` as separate
lists.

Read from align_anything/models/remote_rm/remote_rm_client.py at 3f9decc. The client tries 3 times
with a timeout of 100 s, and takes any status but 200 as a failure. It sleeps 1 s after an exception
but not after a status, so that three tries on a 503 take milliseconds. It makes `rewards` a tensor.
"""

from __future__ import annotations

from candor.trainers import openrlhf
from candor.trainers.contract import Contract, Pair, ScoreCall, Texts
from candor.trainers.fields import Body


class AlignAnythingBody(Body):
    prompts: Texts
    responses: Texts


def read(body: AlignAnythingBody) -> ScoreCall:
    if len(body.prompts) != len(body.responses):
        raise ValueError(
            f"'prompts' has {len(body.prompts)} texts and 'responses' {len(body.responses)}"
        )
    return ScoreCall([Pair(p, [r]) for p, r in zip(body.prompts, body.responses, strict=True)])


CONTRACT = Contract(
    client="align-anything",
    body=AlignAnythingBody,
    needs=frozenset({"prompts", "responses"}),
    read=read,
    write=openrlhf.write,
    example={"prompts": ["Is my plan good?"], "responses": ["In part: it is late."]},
    answer=openrlhf.CONTRACT.answer,
)
