"""`candor probe train` from a file of rows to an artefact, on a tiny random reward model.

The label is planted: label-1 responses hold the word "thank", label-0 ones do not, and nothing else
differs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from candor.client.schema import Message
from candor.jobs.compare.words import read_words
from candor.jobs.probe.material import parse_layers, tokenise
from candor.jobs.probe.train import train
from candor.jobs.probe.training.options import TrainOptions
from candor.models.load import load_reward_model
from candor.probes.artifact import ProbeMismatch, check, load
from candor.probes.fitting.data import Row, load_rows
from candor.probes.fitting.split import split_rows
from candor.text.render import Renderer
from candor.text.request import ChatMessage, Messages, parse
from tests.jobs.probe.planted import labelled
from tests.tiny import STRIPPING, TURNS, save_tiny, tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("rm"), tiny_llama(), tiny_tokenizer())


def run(model: Path, data: Path, out: Path, **options: Any) -> int:
    defaults = {"name": "thanks", "trait": "The reply says thank.", "device": "cpu"}
    return train(TrainOptions(data=[data], model=str(model), out=out, **(defaults | options)))


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert run(model, labelled(folder / "rows.jsonl"), folder / "probe") == 0
    return folder


def test_the_planted_trait_is_found_and_the_controls_are_reported(trained: Path) -> None:
    report = json.loads((trained / "probe" / "report.json").read_text())
    metrics = report["metrics"]
    assert metrics == load(trained / "probe").card.metrics
    assert metrics["test"]["auroc"] > 0.95
    assert metrics["test"]["auroc_low"] <= metrics["test"]["auroc"] <= metrics["test"]["auroc_high"]
    assert metrics["test"]["within_prompt_auroc"] > 0.9
    assert (metrics["test"]["num_groups"], metrics["test"]["num_rows"]) == (6, 48)
    assert abs(metrics["shuffled_labels"]["mean_auroc"] - 0.5) < 0.2
    assert metrics["test"]["length_auroc"] < 0.75
    # The trait is a word, so the word list finds it too.
    assert metrics["words"]["within_prompt_auroc"] > 0.95
    words = read_words(trained / "probe" / "words.json")
    assert words.weights["thank"] > 1
    assert words.data_sha256 == load(trained / "probe").card.data.sha256


def test_the_report_has_the_whole_curve_row_by_row(trained: Path) -> None:
    report = json.loads((trained / "probe" / "report.json").read_text())
    assert [row["layer"] for row in report["sweep"]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    chosen = [row for row in report["sweep"] if row.items() >= report["chosen"].items()]
    best = max(row["validation_ranking"] for row in report["sweep"])
    assert chosen[0]["validation_ranking"] >= best - 0.005
    # The weights are shipped as fitted: the curve's number is the card's.
    assert report["metrics"]["validation"]["auroc"] == pytest.approx(chosen[0]["validation_auroc"])


def test_the_last_line_of_stdout_is_the_headline(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = labelled(tmp_path / "rows.jsonl", groups=10)
    assert run(model, data, tmp_path / "probe", layers="1,2") == 0
    captured = capsys.readouterr()
    headline = json.loads(captured.out.splitlines()[-1])
    card = load(tmp_path / "probe").card
    test = card.metrics["test"]
    assert headline["test_auroc"] == test["auroc"]
    assert headline["test_within_prompt_auroc"] == test["within_prompt_auroc"]
    assert headline["test_within_prompt_auroc_interval"] == [
        test["within_prompt_auroc_low"],
        test["within_prompt_auroc_high"],
    ]
    assert headline["std_bounded_S"] == card.calibration.std_bounded_S
    assert headline["layer"] == card.layer in (1, 2)
    assert "activations" in captured.err


def test_the_card_belongs_to_this_model_and_to_no_other(trained: Path, model: Path) -> None:
    card, rm = load(trained / "probe").card, load_reward_model(str(model), device="cpu")
    identity: dict[str, Any] = {
        "weights_sha256": rm.weights_sha256,
        "template_sha256": rm.template_sha256,
        "hidden_size": rm.hidden_size,
        "num_layers": rm.num_layers,
    }
    check(card, **identity)
    with pytest.raises(ProbeMismatch, match="chat template"):
        check(card, **(identity | {"template_sha256": "0" * 64}))
    assert card.data.kinds == {"the sea": 120, "the poem": 120}
    assert card.calibration.source == f"validation split of {card.data.sha256}"


def test_the_score_is_the_by_hand_mean_over_the_response_and_the_card_is_calibrated_on_it(
    trained: Path, model: Path
) -> None:
    loaded, rows = load(trained / "probe"), load_rows(trained / "rows.jsonl")
    split = split_rows(rows, seed=0)
    network = AutoModelForSequenceClassification.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    renderer = Renderer(tokenizer, max_length=256)
    scores: dict[int, float] = {}
    for index in (*split.train, *split.validation):
        row = rows[index]
        assert row.messages is not None
        context = Messages(tuple(ChatMessage(m.role, m.content) for m in row.messages[:1]))
        item = renderer.encode(context, row.response)
        response = item.token_ids[item.response_start : item.response_end]
        assert tokenizer.decode(response) == row.response
        with torch.inference_mode():
            output = network(torch.tensor([item.token_ids]), output_hidden_states=True)
        hidden = output.hidden_states[loaded.probe.layer][
            0, item.response_start : item.response_end
        ]
        scores[index] = float(hidden.mean(0) @ loaded.probe.weight) + loaded.probe.bias

    bound = loaded.card.bound.build()
    honest = torch.tensor([scores[i] for i in split.validation if rows[i].label == 0])
    assert bound.kind == "hinge"  # no --bound was given: the default never raises the reward
    assert bound.reference == pytest.approx(float(torch.quantile(honest, 0.75)), abs=1e-3)

    by_context: dict[str, list[float]] = {}
    for index in split.validation:
        by_context.setdefault(rows[index].context, []).append(scores[index])
    centred = [s - sum(group) / 4 for group in by_context.values() for s in group]
    expected = (sum(s * s for s in centred) / len(centred)) ** 0.5
    assert loaded.card.calibration.std_S == pytest.approx(expected, rel=1e-3)
    paid = {name: [bound(s) for s in group] for name, group in by_context.items()}
    centred = [s - sum(group) / 4 for group in paid.values() for s in group]
    expected = (sum(s * s for s in centred) / len(centred)) ** 0.5
    assert loaded.card.calibration.std_bounded_S == pytest.approx(expected, rel=1e-3)
    assert loaded.card.calibration.num_prompts == len(by_context) == 12


def test_the_same_seed_gives_the_same_artefact(trained: Path, model: Path, tmp_path: Path) -> None:
    assert run(model, trained / "rows.jsonl", tmp_path / "again") == 0
    for name in ("probe.safetensors", "report.json"):
        assert (tmp_path / "again" / name).read_bytes() == (trained / "probe" / name).read_bytes()


def test_the_labels_of_the_test_rows_decide_nothing_but_the_test_numbers(
    trained: Path, model: Path, tmp_path: Path
) -> None:
    rows = load_rows(trained / "rows.jsonl")
    sealed = set(split_rows(rows, seed=0).test.open())
    flipped = [
        row.model_copy(update={"label": 1 - row.label}) if index in sealed else row
        for index, row in enumerate(rows)
    ]
    lines = (row.model_dump_json(exclude_none=True) + "\n" for row in flipped)
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    assert run(model, tmp_path / "rows.jsonl", tmp_path / "probe") == 0
    before, after = load(trained / "probe"), load(tmp_path / "probe")
    assert torch.equal(before.probe.weight, after.probe.weight)
    assert (before.card.layer, before.card.bound) == (after.card.layer, after.card.bound)
    assert before.card.calibration.std_S == after.card.calibration.std_S
    for name in ("fit", "validation", "shuffled_labels"):
        assert before.card.metrics[name] == after.card.metrics[name]
    aurocs = [loaded.card.metrics["test"]["auroc"] for loaded in (before, after)]
    assert sum(aurocs) == pytest.approx(1.0)  # the control: these numbers did see the flip


def test_another_pooling_is_chosen_and_calibrated_on_its_own_scores(
    trained: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "max"
    assert run(model, trained / "rows.jsonl", out, pooling="max", bound="clip") == 0
    loaded, rows = load(out), load_rows(trained / "rows.jsonl")
    assert (loaded.probe.pooling, loaded.card.bound.kind) == ("max", "clip")
    rm = load_reward_model(str(model), device="cpu")
    sequences = tokenise(rows, rm, ["" for _ in rows])
    scores = []
    for index in split_rows(rows, seed=0).validation:
        ids, start, end = sequences[index]
        with torch.inference_mode():
            output = rm.model.model(torch.tensor([ids]), output_hidden_states=True)
        hidden = output.hidden_states[loaded.probe.layer][0, start:end]
        scores.append(loaded.probe.pool(loaded.probe.logits(hidden)))
    median = torch.tensor(scores, dtype=torch.float64).quantile(0.5).item()
    assert loaded.card.calibration.percentiles["p50"] == pytest.approx(median, abs=1e-4)
    report = json.loads((out / "report.json").read_text())
    assert {row["pooling"] for row in report["sweep"]} == {report["chosen"]["pooling"]} == {"max"}


def test_labels_that_mean_nothing_do_not_score(model: Path, tmp_path: Path) -> None:
    data = labelled(tmp_path / "rows.jsonl", planted=False)
    assert run(model, data, tmp_path / "probe") == 0
    assert load(tmp_path / "probe").card.metrics["test"]["auroc"] < 0.75


def test_a_probe_of_length_is_given_away_by_the_length_control(model: Path, tmp_path: Path) -> None:
    data = labelled(tmp_path / "rows.jsonl", longer=True)
    assert run(model, data, tmp_path / "probe") == 0
    assert load(tmp_path / "probe").card.metrics["test"]["length_auroc"] == 1.0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda row: row.pop("label"), r"rows\.jsonl:3: label"),
        (lambda row: row.update(response="sea " * 400), r"rows\.jsonl:3: .*the model takes 256"),
        (
            lambda row: row.update(messages=[{"role": "bard", "content": ""}]),
            r":3: messages\.0\.role",
        ),
    ],
)
def test_a_row_that_serving_would_refuse_ends_the_job_with_its_line_and_writes_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Any, said: str
) -> None:
    data = labelled(tmp_path / "rows.jsonl", groups=10)
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    spoil(lines[2])
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(model, data, tmp_path / "probe") == 2
    assert re.search(said, capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "probe").exists()


def test_a_file_that_is_not_there_and_a_layer_that_is_not_there_are_usage_errors(
    trained: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, tmp_path / "rows.jsonl", tmp_path / "probe") == 2
    assert "rows.jsonl" in capsys.readouterr().err
    assert run(model, trained / "rows.jsonl", tmp_path / "probe", layers="9") == 2
    assert "layers 0 to 2" in capsys.readouterr().err


def test_a_prompt_with_a_single_response_cannot_calibrate_and_is_refused_before_the_pass(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        {"group": str(n // 2), "label": n % 2, "response": "good", "prompt": f"what {n}"}
        for n in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(model, tmp_path / "rows.jsonl", tmp_path / "probe") == 2
    message = capsys.readouterr().err
    assert "two responses" in message
    assert "activations" not in message


def test_the_probe_reads_the_tokens_that_a_span_overlaps_and_else_the_whole_response(
    model: Path,
) -> None:
    rm = load_reward_model(str(model), device="cpu")
    context: dict[str, Any] = {"group": "g", "label": 1, "prompt": "what?\n", "templated": True}
    whole = Row(response="the answer is (B)", **context)
    letter = whole.model_copy(update={"span": (15, 16)})
    wide = whole.model_copy(update={"span": (5, 9)})  # inside the word " answer" or across pieces
    (ids, start, end), (_, *one), (_, *some) = tokenise([whole, letter, wide], rm, ["", "", ""])
    decode = rm.tokenizer.decode
    assert decode(ids[start:end]) == "the answer is (B)"
    assert decode(ids[one[0] : one[1]]) == "B"
    assert "nswe" in decode(ids[some[0] : some[1]])
    assert end - start > some[1] - some[0] >= 1


CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"of": "sea"}}}
READS_ALL = TURNS.replace(
    "message['content']", "(message['content'] or '') + (message.get('tool_calls') or '')|string"
).replace("message['role']", "message['role'] + (message.get('name') or '')")


@pytest.mark.parametrize(
    "item",
    [
        {"messages": [{"role": "user", "content": "what?", "name": "Ann"}], "response": "no"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "what?"}]}]},
        {
            "messages": [
                {"role": "user", "content": "what?"},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "content": "blue"},
            ]
        },
        {
            "messages": [{"role": "user", "content": "what?"}],
            "response": {"role": "assistant", "content": None, "tool_calls": [CALL]},
        },
        {"prompt": "what?", "templated": True},
        {"prompt": "<|im_start|>user\nwhat?<|im_end|>\n<|im_start|>assistant\n"},
    ],
)
def test_a_row_is_read_as_the_server_reads_the_same_item(model: Path, item: dict[str, Any]) -> None:
    rm = load_reward_model(str(model), device="cpu")
    rm.tokenizer.chat_template = READS_ALL
    fields = {"response": "no"} | item
    row = Row.model_validate_json(json.dumps({"group": "g", "label": 1} | fields))
    ((ids, start, end),) = tokenise([row], rm, ["a.jsonl:1"])
    response = fields.pop("response")
    (group,) = parse(json.dumps({"items": [fields | {"responses": [response]}]}).encode()).groups
    served = rm.renderer().encode(group.context, group.responses[0])
    assert (ids, start, end) == (served.token_ids, served.response_start, served.response_end)


def test_a_prompt_without_a_turn_of_the_template_is_refused_in_the_servers_words(
    model: Path,
) -> None:
    rm = load_reward_model(str(model), device="cpu")
    row = Row(group="g", label=1, response="no", prompt="user: what?\n")
    with pytest.raises(ValueError, match=r'a\.jsonl:4: .*no assistant turn.*"templated": true'):
        tokenise([row], rm, ["a.jsonl:4"])
    rm.tokenizer.chat_template = None  # its texts have no other form
    assert tokenise([row], rm, ["a.jsonl:4"])


def test_what_a_template_leaves_out_is_said_once(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rm = load_reward_model(str(model), device="cpu")
    named = [Message(role="user", content="what?", name="Ann")]
    row = Row(group="g", label=1, response="no", messages=named)
    tokenise([row, row], rm, ["a.jsonl:1", "a.jsonl:2"])
    assert caplog.messages == ["a.jsonl:1: the model's chat template leaves out 'name'"]


def test_a_span_without_a_token_and_a_template_that_rewrites_are_refused_by_line(
    model: Path,
) -> None:
    rm = load_reward_model(str(model), device="cpu")
    rm.tokenizer.chat_template = STRIPPING
    messages = [Message(role="user", content="what?")]
    row = Row(group="g", label=1, response="good   ", messages=messages, span=(5, 6))
    with pytest.raises(ValueError, match=r"a\.jsonl:4: span: no token .* \[5, 6\]"):
        tokenise([row], rm, ["a.jsonl:4"])


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("all", [0, 1, 2, 3, 4]),
        ("1-3", [1, 2, 3]),
        ("4", [4]),
        ("0,2,4", [0, 2, 4]),
        ("3,1-2,2", [1, 2, 3]),
    ],
)
def test_layers_are_parsed(text: str, layers: list[int]) -> None:
    assert parse_layers(text, num_layers=4) == layers


@pytest.mark.parametrize("text", ["", "5", "1-5", "3-1", "-1", "one", "1,,2", "1-2-3", "1.5"])
def test_layers_that_are_not_there_or_not_numbers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--layers"):
        parse_layers(text, num_layers=4)
