"""The tests on changed responses: the texts by hand, and planted traits that must fall, with
controls that must not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from candor.jobs.probe.material import LabelledRows, read_data, tokenise
from candor.jobs.probe.reader import RowReader
from candor.jobs.probe.stress.both import stress
from candor.jobs.probe.stress.filler import SENTENCES, dilute
from candor.jobs.probe.stress.long_texts import long_texts
from candor.jobs.probe.stress.telltale import find_words, telltale, without
from candor.jobs.running.files import write_rows
from candor.models.load import load_reward_model
from candor.probes.fitting.fit import fit
from candor.probes.fitting.select import POOLINGS
from candor.probes.probe import Probe
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer

WORDS = ["the", "poem", "is", "about", "sea", "and", "answer", "good", "blue", "what"]


@pytest.mark.parametrize("factor", [1, 4, 16])
def test_a_diluted_response_is_whole_among_sentences_and_long_enough(factor: int) -> None:
    response = "I love it, and you are right about every word of it."
    places = set()
    for seed in range(20):
        text = dilute(response, factor, seed)
        assert text == dilute(response, factor, seed)
        assert response in text
        before, _, after = text.partition(response)
        words = len(text.split())
        assert words >= factor * len(response.split())
        assert words < factor * len(response.split()) + 20
        places.add((len(before), len(after)))
        rest = f"{before} {after}"
        for sentence in SENTENCES:
            rest = rest.replace(sentence, "")
        assert rest.strip() == ""  # nothing but our sentences
    assert (len(places) == 1) == (factor == 1)


def test_the_filler_takes_no_stance() -> None:
    assert len(set(SENTENCES)) == len(SENTENCES)
    said = {word.strip(".,'").lower() for sentence in SENTENCES for word in sentence.split()}
    stance = {"i", "you", "love", "great", "right", "wrong", "agree", "good", "bad", "think", "no"}
    assert not said & (stance | {"yes", "sorry", "poem", "opinion"})


def test_words_leave_in_any_case_and_only_whole() -> None:
    assert without("Thank you, thankfully. THANK  you!", ["thank"]) == "you, thankfully. you!"
    assert without("I don't think so", ["don't"]) == "I think so"
    assert without("blue", ["blue"]) == ""
    assert without(" as it is ", []) == "as it is"


def test_the_words_found_are_those_that_tell_and_the_control_is_as_frequent() -> None:
    draw = random.Random(0)
    labels = [number % 2 for number in range(400)]
    texts = [
        " ".join(
            [*draw.choices(WORDS, k=6), draw.choice([["you", "sir"], ["thank", "dear"]][label])]
        )
        for label in labels
    ]
    words = find_words(texts, labels)
    assert set([*words.telling][:4]) == {"thank", "dear", "you", "sir"}
    assert words.telling["thank"] > 0 > words.telling["you"]
    assert len(words.control) == len(words.telling)
    assert not set(words.control) & set(words.telling)
    assert find_words(["a b", "c d"], [0, 1]).telling == {}  # no word is frequent enough


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> RowReader:
    """Of a tiny model with a window for long texts."""
    folder = tmp_path_factory.mktemp("rm")
    model = tiny_llama(max_position_embeddings=1024)
    save_tiny(folder, model, tiny_tokenizer())
    return RowReader(load_reward_model(str(folder), device="cpu", dtype="float32"))


def rows_of(folder: Path, ones: list[str], zeros: list[str], length: int) -> LabelledRows:
    """Rows whose label is told by one word at a random place: of `ones` or of `zeros`."""
    draw = random.Random(1)
    rows: list[dict[str, Any]] = []
    for group in range(60):
        for label in (0, 1, 0, 1):
            words = draw.choices(WORDS, k=length)
            words[draw.randrange(length)] = draw.choice((zeros, ones)[label])
            rows.append(
                {
                    "group": f"g{group}",
                    "label": label,
                    "kind": "planted",
                    "response": " ".join(words),
                    "messages": [{"role": "user", "content": f"What is it, {group}?"}],
                }
            )
    path = folder / "rows.jsonl"
    write_rows(path, rows)
    return read_data([path], seed=0)


def fitted(data: LabelledRows, reader: RowReader, folder: Path) -> Probe:
    """A probe on the embeddings, where a word is the same in every place."""
    sequences = tokenise(data.rows, reader.rm, data.places)
    here = reader.layers(sequences, [0], folder, data.places).read(0)
    train = list(data.labelled.train)
    weight, bias = fit("logistic", here.means[train], data.labels[train], C=0.1)
    return Probe("planted", torch.from_numpy(weight), bias, 0)


def test_the_filter_test_finds_a_probe_of_one_word_and_its_control_does_not(
    reader: RowReader, tmp_path: Path
) -> None:
    data = rows_of(tmp_path, ["thank"], ["you"], 8)
    probe = fitted(data, reader, tmp_path)
    test = data.split.test.open()
    found = telltale(data, reader, probe, test, 0)
    whole, filtered, control = (arm["auroc"] for arm in found["arms"])
    assert whole > 0.95
    assert filtered < 0.7
    assert control > 0.9
    assert [*found["words"]][:2] in (["thank", "you"], ["you", "thank"])
    assert [arm["num_changed"] for arm in found["arms"]][:2] == [0, found["num_rows"]]
    assert found["num_rows"] + found["num_left_out"] == len(test)


def test_a_short_trait_falls_with_the_length_under_the_mean(
    reader: RowReader, tmp_path: Path
) -> None:
    data = rows_of(tmp_path, ["thank"], ["you"], 3)
    probe = fitted(data, reader, tmp_path)
    found = long_texts(data, reader, probe, data.split.test.open(), 0)
    assert [length["factor"] for length in found["lengths"]] == [1, 4, 16]
    tokens = [length["mean_tokens"] for length in found["lengths"]]
    assert tokens[1] > 3 * tokens[0]
    assert tokens[2] > 3 * tokens[1]
    assert found["num_rows"] == 48
    whole, _, longest = (length["poolings"] for length in found["lengths"])
    assert set(whole) == set(POOLINGS)
    assert whole["mean"]["auroc"] > 0.95
    assert longest["mean"]["auroc"] < whole["mean"]["auroc"] - 0.1
    assert whole["mean"]["auroc_low"] <= whole["mean"]["auroc"] <= whole["mean"]["auroc_high"]


def test_what_does_not_fit_the_window_is_left_out_and_counted(tmp_path: Path) -> None:
    save_tiny(tmp_path / "rm", tiny_llama(max_position_embeddings=256), tiny_tokenizer())
    reader = RowReader(load_reward_model(str(tmp_path / "rm"), device="cpu", dtype="float32"))
    data = rows_of(tmp_path, ["thank"], ["you"], 8)
    probe = fitted(data, reader, tmp_path)
    found = long_texts(data, reader, probe, data.split.test.open(), 0)
    assert [length["factor"] for length in found["lengths"]][-1] < 16
    assert found["num_rows"] >= 20
    assert found["num_rows"] + found["num_left_out"] == 48


def test_scores_of_changed_rows_are_those_of_the_probe_on_each_text_alone(
    reader: RowReader, tmp_path: Path
) -> None:
    data = rows_of(tmp_path, ["thank"], ["you"], 8)
    sequences = tokenise(data.rows, reader.rm, data.places)[:9]
    weight = torch.randn(32, generator=torch.Generator().manual_seed(0))
    probe = Probe("p", weight, 0.25, 1)
    found = reader.scores(sequences, probe, POOLINGS, what="rows")
    plain = tiny_llama(max_position_embeddings=1024)
    for index, (ids, start, end) in enumerate(sequences):
        with torch.inference_mode():
            out = plain.model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        logits = out.hidden_states[1][0, start:end] @ weight + 0.25
        for pooling in POOLINGS:
            expected = Probe("p", weight, 0.25, 1, pooling).pool(logits)
            assert found[pooling][index] == pytest.approx(expected, abs=1e-4)


def test_a_test_that_fails_does_not_cost_the_probe(
    reader: RowReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = rows_of(tmp_path, ["thank"], ["you"], 8)
    probe = Probe("p", torch.ones(32), 0.0, 1)

    def fails(*_: object, **__: object) -> None:
        raise ValueError("layer 1 is not finite")

    monkeypatch.setattr(RowReader, "scores", fails)
    found = stress(data, reader, probe, data.split.test.open(), 0)
    error = {"error": "layer 1 is not finite"}
    assert found == {"long_texts": error, "telltale": error}


def test_the_same_seed_gives_the_same_numbers(reader: RowReader, tmp_path: Path) -> None:
    data = rows_of(tmp_path, ["thank"], ["you"], 8)
    probe = Probe("p", torch.from_numpy(np.ones(32, dtype=np.float32)), 0.0, 1)
    test = data.split.test.open()
    assert telltale(data, reader, probe, test, 3) == telltale(data, reader, probe, test, 3)
