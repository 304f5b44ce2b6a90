"""`candor probe train` on several kinds of data: transfer, controls, the report, the cache.

Tiny random model. In kinds `alike` and `also` label 1 is the word "thank"; in kind `other` as well;
`genuine-agreement` has label 0 alone. A kind `odd` tells its labels by another word.
"""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from candor.jobs.probe.measure import CONTROL_KIND
from candor.jobs.probe.reader import RowReader
from candor.jobs.probe.report import page, read_report
from candor.jobs.probe.train import train
from candor.jobs.probe.training.options import TrainOptions
from candor.probes.artifact import load
from candor.probes.fitting.data import load_rows
from candor.probes.fitting.evaluate import auroc
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer

WORDS = ["the", "poem", "is", "about", "sea", "and", "answer", "good", "blue", "what"]
MARKS = {"odd": ("system", "user"), CONTROL_KIND: ("you", "you")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("rm"), tiny_llama(), tiny_tokenizer())


def write_kind(folder: Path, kind: str, groups: int = 20, **fields: Any) -> Path:
    """One prompt a group; four responses, labels alternating."""
    rng = random.Random(kind)
    lines = []
    for group in range(groups):
        for turn in range(4):
            label = turn % 2 * (kind != CONTROL_KIND)
            words = rng.choices(WORDS, k=rng.randint(5, 9))
            words[rng.randrange(len(words))] = MARKS.get(kind, ("you", "thank"))[label]
            lines.append(
                {
                    "group": f"{kind}-{group}",
                    "label": label,
                    "kind": kind,
                    "response": " ".join(words),
                    "messages": [{"role": "user", "content": f"{kind} {group}?"}],
                }
                | fields
            )
    path = folder / f"{kind}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(model: Path, data: list[Path], out: Path, **options: Any) -> int:
    defaults: dict[str, Any] = {"name": "thanks", "trait": "It says thank.", "device": "cpu"}
    return train(TrainOptions(data=data, model=str(model), out=out, **(defaults | options)))


def report_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


KINDS = ["alike", "also", "other", CONTROL_KIND]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("data")
    return [write_kind(folder, kind) for kind in KINDS]


@pytest.fixture(scope="module")
def trained(model: Path, data: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    code = run(model, data, out / "probe", method=["all"], pooling="all", cache=out / "cache")
    assert code == 0
    return out


class Forwards:
    """Forwards of any model's trunk in this thread for the pass over all rows, while it is open.

    The tests on changed responses have passes of their own, which no cache saves. The hook is
    the process's: a server that another test file left behind forwards too, in its own.
    """

    def __enter__(self) -> Forwards:
        self.count, self._thread = 0, threading.get_ident()
        self._hook = nn.modules.module.register_module_forward_pre_hook(self._one)
        self._inside, self._layers = False, RowReader.layers
        RowReader.layers = self._counted  # type: ignore[method-assign]
        return self

    def __exit__(self, *exception: object) -> None:
        self._hook.remove()
        RowReader.layers = self._layers  # type: ignore[method-assign]

    @property
    def _counted(self) -> Any:
        def layers(*arguments: Any) -> Any:
            self._inside = True
            try:
                return self._layers(*arguments)
            finally:
                self._inside = False

        return layers

    def _one(self, module: nn.Module, args: object) -> None:
        mine = threading.get_ident() == self._thread
        self.count += self._inside and mine and type(module).__name__ == "LlamaModel"


def test_the_report_has_the_shape_that_its_page_reads(trained: Path) -> None:
    report = report_of(trained / "probe")
    assert set(report) == {
        "name", "chosen", "metrics", "sweep", "kinds", "transfer", "genuine_agreement",
        "flagged", "reliability", "scores", "examples", "controls", "long_texts", "telltale",
    }  # fmt: skip
    setting = {"layer", "method", "C", "pooling"}
    assert set(report["chosen"]) == setting
    curve = {"train_auroc", "validation_auroc", "validation_ranking", "transfer_ranking"}
    assert len(report["sweep"]) == 3 * 6 * 5  # layers, methods with their C, poolings
    assert all(set(row) == setting | curve for row in report["sweep"])
    fields = {
        "kind", "num_rows", "num_groups", "num_mixed_prompts", "auroc", "auroc_low", "auroc_high",
        "within_prompt_auroc", "within_prompt_auroc_low", "within_prompt_auroc_high",
        "tpr_at_1_fpr",
    }  # fmt: skip
    assert all(set(row) == fields for row in report["kinds"])
    assert all(set(row) == fields | {"chosen"} for row in report["transfer"])
    assert all(set(row["chosen"]) == setting for row in report["transfer"])
    assert [row["kind"] for row in report["kinds"]] == sorted(KINDS)
    assert [row["kind"] for row in report["transfer"]] == ["alike", "also", "other"]
    nothing = ("auroc", "auroc_low", "auroc_high", "within_prompt_auroc",
               "within_prompt_auroc_low", "within_prompt_auroc_high", "tpr_at_1_fpr")  # fmt: skip
    assert {row["kind"]: row for row in report["kinds"]}[CONTROL_KIND] == {
        "kind": CONTROL_KIND, "num_rows": 16, "num_groups": 4, "num_mixed_prompts": 0,
        **dict.fromkeys(nothing),
    }  # fmt: skip
    assert set(report["controls"]) == {
        "length_auroc", "length_within_prompt_auroc", "shuffled_mean_auroc", "shuffled_max_auroc",
    }  # fmt: skip
    bins = {"low", "high", "mean_probability", "share_positive", "num_rows"}
    assert all(set(one) == bins for one in report["reliability"])
    assert sum(one["num_rows"] for one in report["reliability"]) == len(report["scores"]) == 64
    assert page(load(trained / "probe").card, read_report(trained / "probe" / "report.json"))


def test_the_trait_carries_over_and_is_not_found_in_agreement(trained: Path) -> None:
    metrics = load(trained / "probe").card.metrics
    assert metrics["fit"]["select"] == "transfer"
    assert metrics["fit"]["transfer_ranking"] > 0.95
    assert all(row["auroc"] > 0.95 for row in metrics["transfer"])
    agreement = metrics["genuine_agreement"]
    assert agreement["num_rows"] == 16
    assert agreement["tpr"] >= 0.6
    assert agreement["fpr"] <= 0.1


def test_the_tables_are_of_the_scores_of_the_test_rows(trained: Path) -> None:
    report = report_of(trained / "probe")
    for row in report["kinds"]:
        mine = [one for one in report["scores"] if one["kind"] == row["kind"]]
        assert len(mine) == row["num_rows"]
        if row["auroc"] is not None:
            scores, labels = [one["score"] for one in mine], [one["label"] for one in mine]
            assert row["auroc"] == pytest.approx(auroc(scores, labels))
    agreement = report["genuine_agreement"]
    above = [s["score"] >= agreement["threshold"] for s in report["scores"]]
    flagged = [a for a, s in zip(above, report["scores"], strict=True) if s["kind"] == CONTROL_KIND]
    assert agreement["fpr"] == sum(flagged) / len(flagged)


def test_examples_are_test_rows_token_by_token(trained: Path) -> None:
    report = report_of(trained / "probe")
    examples = report["examples"]
    assert [one["label"] for one in examples] == [1] * 4 + [0] * 4
    assert {one["kind"] for one in examples[:4]} == {"alike", "also", "other"}
    assert {one["kind"] for one in examples[4:]} == set(KINDS)
    pooling = report["chosen"]["pooling"]
    for one in examples:
        assert "".join(token["text"] for token in one["tokens"]) == one["response"]
        logits = torch.tensor([token["logit"] for token in one["tokens"]])
        probe = load(trained / "probe").probe
        assert probe.pooling == pooling
        assert one["score"] == pytest.approx(probe.pool(logits), abs=1e-4)
        assert one["context"].startswith(f"user: {one['kind']}")


def test_a_cached_pass_is_not_made_again_and_gives_the_same_artefact(
    trained: Path, model: Path, data: list[Path], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"method": ["all"], "pooling": "all"}
    with Forwards() as cached:
        assert run(model, data, tmp_path / "a", cache=trained / "cache", **options) == 0
    with Forwards() as uncached:
        assert run(model, data, tmp_path / "b", **options) == 0
    assert cached.count == 0 < uncached.count
    for name in ("probe.safetensors", "report.json"):
        original = (trained / "probe" / name).read_bytes()
        assert (tmp_path / "a" / name).read_bytes() == original
        assert (tmp_path / "b" / name).read_bytes() == original


def test_other_labels_use_the_same_pass_and_other_texts_do_not(
    trained: Path, model: Path, data: list[Path], tmp_path: Path
) -> None:
    relabelled, reworded = flip(data[0], tmp_path / "relabelled.jsonl"), tmp_path / "reworded.jsonl"
    reworded.write_text(data[0].read_text().replace("blue", "good", 1))
    for path, same in ((relabelled, True), (reworded, False)):
        with Forwards() as forwards:
            code = run(
                model, [path, *data[1:]], tmp_path / "probe",
                cache=trained / "cache", layers="1", method=["mass-mean"],
            )  # fmt: skip
        assert code == 0
        assert (forwards.count == 0) == same


def flip(path: Path, out: Path) -> Path:
    swapped = path.read_text().replace('"label": 1', '"label": 9').replace(
        '"label": 0', '"label": 1').replace('"label": 9', '"label": 0')  # fmt: skip
    out.write_text(swapped)
    return out


def test_a_kind_held_out_decides_nothing_and_is_measured(
    model: Path, data: list[Path], tmp_path: Path
) -> None:
    odd = write_kind(tmp_path, "odd")
    flipped = flip(odd, tmp_path / "flipped.jsonl")
    cards, weights = {}, {}
    for name, path, held_out in (
        ("out", odd, ["odd"]), ("out, flipped", flipped, ["odd"]), ("in", odd, None),
    ):  # fmt: skip
        paths, out = [*data, path], tmp_path / name
        assert run(model, paths, out, layers="1,2", hold_out_kind=held_out) == 0
        cards[name], weights[name] = load(out).card, load(out).probe.weight
    assert torch.equal(weights["out"], weights["out, flipped"])
    assert not torch.equal(weights["out"], weights["in"])  # the control
    one, other = cards["out"], cards["out, flipped"]
    assert one.metrics["fit"]["held_out_kinds"] == ["odd"]
    assert one.data.kinds["odd"] == 80
    assert one.bound == other.bound
    assert one.calibration.std_S == other.calibration.std_S
    for name in ("fit", "validation", "shuffled_labels", "test", "genuine_agreement"):
        assert one.metrics[name] == other.metrics[name]
    for table in ("kinds", "transfer"):
        aurocs = [
            row["auroc"]
            for card in (one, other)
            for row in card.metrics[table]
            if row["kind"] == "odd"
        ]
        assert sum(aurocs) == pytest.approx(1.0)  # the same scores under turned labels
    assert [row["kind"] for row in cards["in"].metrics["transfer"]] == [
        "alike", "also", "odd", "other",
    ]  # fmt: skip


def test_within_leaves_no_kind_out_to_choose(model: Path, data: list[Path], tmp_path: Path) -> None:
    assert run(model, data, tmp_path / "probe", layers="1,2", select="within") == 0
    report = report_of(tmp_path / "probe")
    assert report["metrics"]["fit"]["select"] == "within"
    assert all(row["transfer_ranking"] is None for row in report["sweep"])
    assert len(report["transfer"]) == 3  # measured all the same


def test_the_last_line_of_stdout_tells_kinds_and_transfer(
    model: Path, data: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, data, tmp_path / "probe", layers="2", method=["lda"]) == 0
    headline = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (headline["method"], headline["C"], headline["pooling"]) == ("lda", None, "mean")
    assert set(headline["kind_aurocs"]) == set(KINDS)
    assert set(headline["transfer_aurocs"]) == {"alike", "also", "other"}
    assert 0 <= headline["genuine_agreement_fpr"] <= 1


def test_a_split_that_the_rows_bring_is_kept(model: Path, tmp_path: Path) -> None:
    paths = []
    for number, part in enumerate(("train", "validation", "test")):
        (tmp_path / part).mkdir()
        paths.append(write_kind(tmp_path / part, "alike", 5, split=part))
        text = paths[-1].read_text().replace('"alike-', f'"{number}-')
        paths[-1].write_text(text)
    assert run(model, paths, tmp_path / "probe", layers="2") == 0
    assert load(tmp_path / "probe").card.metrics["test"]["num_groups"] == 5
    scored = {row["score"] for row in report_of(tmp_path / "probe")["scores"]}
    assert len(scored) == len(load_rows(paths[2]))


def spoilt(path: Path, line: int, **fields: Any) -> Path:
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    lines[line - 1] |= fields
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (lambda f: [spoilt(write_kind(f, "also"), 7, label=2)], {}, "also.jsonl:7: label"),
        (lambda f: [write_kind(f, CONTROL_KIND)], {}, "every row has label 0 (80 rows"),
        (lambda f: [write_kind(f, "also", 2)], {}, "kind 'also' has 2 groups"),
        (
            lambda f: [spoilt(write_kind(f, "also"), 3, split="train")],
            {},
            "also.jsonl:1: split: missing, while",
        ),
        (
            lambda f: [spoilt(write_kind(f, "also", split="test"), 6, split="train")],
            {},
            "also.jsonl:6: group 'also-1' is in 'train' here and in 'test' at",
        ),
        (lambda f: [write_kind(f, "also")], {"hold_out_kind": ["none"]}, "'none': the data has"),
        (lambda f: [write_kind(f, "also")], {"hold_out_kind": ["also"]}, "part lacks a label"),
        (lambda f: [write_kind(f, "also")], {"select": "transfer"}, "it needs two kinds with both"),
        (lambda f: [spoilt(write_kind(f, "also"), 2, span=[3, 300])], {}, "also.jsonl:2: row: "),
        (lambda f: [], {}, "no data file"),
    ],
)
def test_bad_data_ends_the_job_with_one_line_and_writes_nothing(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Any,
    options: dict[str, Any],
    said: str,
) -> None:
    good = write_kind(tmp_path, "other") if options.get("hold_out_kind") == ["none"] else None
    paths = [*spoil(tmp_path), *([good] if good else [])]
    assert run(model, paths, tmp_path / "probe", **options) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "probe").exists()


def test_a_model_whose_scores_are_not_finite_ends_the_job_before_any_row(
    data: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, tokenizer = tiny_llama(), tiny_tokenizer()
    word = tokenizer(" thank", add_special_tokens=False).input_ids[-1]
    with torch.no_grad():
        network.get_input_embeddings().weight[word] = torch.inf
    broken = save_tiny(tmp_path / "rm", network, tokenizer)
    assert run(broken, data[:1], tmp_path / "probe", layers="0") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "the model gives NaN or infinity for random tokens" in last
    assert "--dtype float32" in last
