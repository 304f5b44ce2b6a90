"""`make demo`: the whole story on one machine. Serve, draw, score, choose, report.

Reads top to bottom. The commands are the ones a user would type; each is printed before it runs.
Nothing here is tuned on the poems it reports: the strength of the penalty was fixed on the `dev`
poems (docs/decisions.md), and the reported poems are in no training set.

Progress goes to stderr; the last stdout line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from candor.jobs.sycophancy.prompts import feedback_rows
from demo import summary as tell
from demo.pairs import Work, works
from demo.processes import candor, free_port, running, vllm, vllm_environment

KAPPA = 2.0
"""Strength of the penalty in within-prompt standard deviations; fixed on the dev poems."""

N = 16
NS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Servers:
    """Where the two servers answer, and the model id the generator serves."""

    reward_url: str
    generator_url: str
    generator_model: str


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Serve, draw, score, choose, report.")
    parser.add_argument("--assets", type=Path, default=Path("build/demo"))
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--generator", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--seed", type=int, default=0, help="draws other candidates")
    parser.add_argument("--split", choices=("test", "dev"), default="test", help="which poems")
    args = parser.parse_args(argv)
    # Leave by way of the context managers, so that a plain `kill` leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    args.out.mkdir(parents=True, exist_ok=True)
    poems = [work for work in works(args.split) if work.kind == "poem"]
    prompts = args.out / "prompts.jsonl"
    write_prompts(prompts, poems)
    with ExitStack() as stack:
        servers = start(stack, args.assets, args.out, args.generator)
        scored_path = draw_and_score(servers, prompts, args.out, args.seed)
        answer = ask_once(servers.reward_url)

    scored = [json.loads(line) for line in scored_path.read_text(encoding="utf-8").splitlines()]
    failed = [row["key"] for row in scored if "error" in row]
    if failed:
        say(f"{len(failed)} prompts failed, the first is {failed[0]}; run again to retry them")
        return 65
    told = tell.numbers(list(tell.gather(scored).values()), NS)
    report = args.out / "report.html"
    tell.page(
        report,
        scored=scored,
        told=told,
        titles={poem.id: poem.title for poem in poems},
        generator=scored[0]["model"],
        model=answer["model"]["id"],
        formula=answer["model"]["formula"],
        provenance={
            "reward model weights": answer["model"]["revision"],
            "engine": answer["model"]["engine"],
            "kappa": str(KAPPA),
            "lambda": f"{answer['results'][0]['responses'][0]['probes'][tell.PROBE]['lambda']:.4f}",
            "seed": str(args.seed),
            "poems": f"{args.split} split of demo.pairs.works",
            "rows": f"{scored_path} and its manifest",
        },
    )
    tell.print_table(told)
    print(json.dumps(tell.summary(told, scored, report)), flush=True)
    return 0


def say(text: str) -> None:
    """One line for the person watching."""
    print(text, file=sys.stderr, flush=True)


def write_prompts(path: Path, poems: Sequence[Work]) -> None:
    """Three prompts a poem: no opinion, "I really like the poem", "I really dislike the poem"."""
    lines = [json.dumps(row) + "\n" for row in feedback_rows(poems)]
    path.write_text("".join(lines), encoding="utf-8")


def start(stack: ExitStack, assets: Path, out: Path, generator: str) -> Servers:
    """Start both servers as processes of their own and wait until both are ready."""
    reward_port, generator_port = free_port(), free_port()
    # Part of the rollouts' key: another generator's samples are never taken for this one's.
    name = f"SmolLM2-135M-Instruct-{generator}"
    reward = candor(
        "serve",
        f"--model={assets / 'model'}",
        f"--probe={assets / 'probes' / tell.PROBE}",
        f"--kappa={tell.PROBE}={KAPPA}",
        f"--port={reward_port}",
    )
    if generator == "vllm":
        draws = vllm(assets / "generator", name, generator_port)
    else:
        draws = candor(
            "generator",
            f"--model={assets / 'generator'}",
            f"--served-model-name={name}",
            f"--port={generator_port}",
        )
    servers = Servers(f"http://127.0.0.1:{reward_port}", f"http://127.0.0.1:{generator_port}", name)
    for command, ready_url, log in (
        (reward, f"{servers.reward_url}/ready", "reward.log"),
        (draws, f"{servers.generator_url}/health", "generator.log"),
    ):
        say(f"$ {shlex.join(command)} &  # log: {out / log}")
        stack.enter_context(
            running(
                command,
                ready_url=ready_url,
                log=out / log,
                timeout_s=600,
                environment=vllm_environment(),
            )
        )
    return servers


def draw_and_score(servers: Servers, prompts: Path, out: Path, seed: int) -> Path:
    """`candor generate`, then `candor score`, then `candor bon`; returns the scored rows."""
    rollouts, scored = out / "rollouts.jsonl", out / "scored.jsonl"
    for command in (
        candor(
            "generate",
            f"--prompts={prompts}",
            f"--out={rollouts}",
            f"--generator-url={servers.generator_url}",
            f"--generator-model={servers.generator_model}",
            f"--n={N}",
            "--temperature=0.8",
            "--max-tokens=60",
            f"--seed={seed}",
        ),
        candor(
            "score",
            f"--rollouts={rollouts}",
            f"--out={scored}",
            f"--reward-url={servers.reward_url}",
        ),
        candor("bon", f"--scored={scored}", f"--out={out / 'bon.json'}"),
    ):
        say(f"$ {shlex.join(command)}")
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return scored


def ask_once(reward_url: str) -> dict[str, Any]:
    """One answer of the reward server, for what the page says of model and formula."""
    body = {
        "items": [{"messages": [{"role": "user", "content": "Hello."}], "responses": ["Hello!"]}]
    }
    request = urllib.request.Request(
        f"{reward_url}/v1/rewards",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


if __name__ == "__main__":
    sys.exit(main())
