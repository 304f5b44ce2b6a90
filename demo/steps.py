"""The steps that the demos share: two servers, draws, a probe from rows, and what a page says of a
run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from candor.jobs.running.files import Row
from demo.commands import run, say, serving
from demo.servers import KAPPA, Generator, generator_name, generator_server, reward_server


@dataclass(frozen=True)
class Draws:
    """How the responses to each prompt are drawn: options of `candor generate`."""

    n: int
    temperature: float
    max_tokens: int
    stop: tuple[str, ...] = ()


@contextmanager
def both_servers(
    assets: Path, out: Path, generator: Generator, probe: str, nulls: Sequence[str] = ()
) -> Iterator[tuple[str, str]]:
    """The reward server and the generator, until the block ends; their URLs.

    Args:
        probe, nulls: as `demo.servers.reward_server`.
    """
    sampler = generator_server(generator, assets, generator_name(generator))
    with (
        serving(reward_server(assets, probe, nulls), out / "reward.log") as reward_url,
        serving(sampler, out / "generator.log") as generator_url,
    ):
        yield reward_url, generator_url


def draw_responses(
    generator_url: str, generator: str, prompts: Path, out: Path, draws: Draws, seed: int
) -> None:
    """`candor generate`: responses to every prompt."""
    run(
        "generate",
        f"--prompts={prompts}",
        f"--out={out}",
        f"--generator-url={generator_url}",
        f"--generator-model={generator}",
        f"--n={draws.n}",
        f"--temperature={draws.temperature}",
        f"--max-tokens={draws.max_tokens}",
        *(f"--stop={text}" for text in draws.stop),
        f"--seed={seed}",
    )


def all_scored(scored: Sequence[Row]) -> bool:
    """Whether no prompt failed; says so where one did."""
    failed = [row["key"] for row in scored if "error" in row]
    if failed:
        say(f"{len(failed)} prompts failed, the first is {failed[0]}; run again to retry them")
    return not failed


def provenance(answer: Row, probe: str, seed: int, scored: Path, **reported: str) -> dict[str, str]:
    """How the numbers were made, for the end of a page.

    Args:
        answer: one answer of the reward server.
        reported: what was asked.
    """
    reading = answer["results"][0]["responses"][0]["probes"][probe]
    return {
        "reward model weights": answer["model"]["revision"],
        "engine": answer["model"]["engine"],
        "kappa": str(KAPPA),
        "lambda": f"{reading['lambda']:.4f}",
        "seed": str(seed),
        **reported,
        "rows": f"{scored} and its manifest",
    }


def is_there(folder: Path) -> bool:
    """Whether the probe of an earlier run is in this folder; says so where it is."""
    found = (folder / "card.json").exists()
    if found:
        say(f"{folder} is there already")
    return found


def train_probe(
    out: Path, *flags: str, data: Sequence[Path], model: Path, name: str, trait: str, layers: str
) -> None:
    """`candor probe train` with further flags."""
    run(
        "probe",
        "train",
        *(f"--data={path}" for path in data),
        f"--model={model}",
        f"--out={out}",
        f"--name={name}",
        f"--trait={trait}",
        f"--layers={layers}",
        *flags,
    )
