"""`candor check` against a live server (docs/trainers/): what each trainer would see, and the
failures it names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import httpx2
import pytest

from candor.client.rows import connections
from candor.jobs.check.adapters import ADAPTERS
from candor.jobs.check.command import CheckOptions, Trainer, check, server_url
from candor.jobs.check.readers import READERS, Unreadable
from candor.jobs.check.recorded import TRAINERS, Recorded, recorded, recorded_of
from candor.jobs.running.exits import Exit
from candor.jobs.running.processes import free_port
from candor.trainers.options import TrainerRoutes
from tests.service.serving import running, tiny_app
from tests.service.trainers.clients import CLIENTS

KEY = "s3cret"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(tiny_app()) as url:
        yield url


@pytest.fixture(scope="module")
def keyed() -> Iterator[str]:
    with running(tiny_app(api_key=KEY)) as url:
        yield url


def checked(trainer: str, url: str, **options: Path) -> int:
    return check(CheckOptions(url, trainer=trainer, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("trainer", get_args(Trainer))
def test_every_trainer_can_use_a_server_as_it_starts(
    trainer: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(trainer, url) == Exit.DONE
    told = capsys.readouterr().out
    assert "those of /v1/rewards" in told
    assert f"{trainer} can use this server" in told
    for one in recorded_of(trainer) if trainer in TRAINERS else []:
        assert one.has_token_ids or one.versions in told
    # An adapter keeps its connections for the next step; the command has none.
    assert not [loop for loop in connections._clients if loop.is_closed()]


def test_the_trainers_are_those_with_bodies_or_adapters() -> None:
    assert {*get_args(Trainer)} == TRAINERS.keys() | ADAPTERS.keys()
    found = {one.name for trainer in TRAINERS for one in recorded_of(trainer)}
    assert found == {one.name for one in recorded()}


def test_an_old_version_that_fails_does_not_fail_the_newest(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked("openrlhf", url) == Exit.DONE
    told = capsys.readouterr().out
    assert "FAIL  OpenRLHF v0.8.10 to v0.8.11" in told
    assert "--no-openrlhf-extra-logs" in told
    assert told.endswith("in its newest version; see FAIL for others.\n")
    with running(tiny_app(trainers=TrainerRoutes(openrlhf_extra_logs=False))) as other:
        checked("openrlhf", other)
    assert "FAIL  OpenRLHF v0.8.10" not in capsys.readouterr().out


def test_a_trainer_that_would_train_on_R_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    routes = TrainerRoutes(openrlhf_rewards="base_reward")
    with running(tiny_app(trainers=routes)) as url:
        assert checked("openrlhf", url) == Exit.DONE
    assert "R of /v1/rewards, without the penalty" in capsys.readouterr().out


def test_a_trainer_sends_the_key_that_its_url_holds_and_no_other(
    keyed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CANDOR_API_KEY", KEY)
    assert checked("slime", keyed) == Exit.ROWS_FAILED
    told = capsys.readouterr().out
    assert "write the key into the URL: http://any:KEY@HOST:PORT" in told
    assert "slime cannot use this server as it is" in told
    assert checked("slime", keyed.replace("http://", f"http://any:{KEY}@")) == Exit.DONE
    assert checked("trl", keyed) == Exit.DONE  # the adapter reads CANDOR_API_KEY
    monkeypatch.delenv("CANDOR_API_KEY")
    assert checked("trl", keyed) == Exit.UNREACHABLE
    captured = capsys.readouterr()
    assert "unauthorized" in captured.err
    assert KEY not in captured.out + captured.err


def test_a_server_that_is_not_there_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert checked("openrlhf", url) == Exit.UNREACHABLE
    assert f"no answer from GET {url}/readyz" in capsys.readouterr().err


def test_a_route_at_the_end_of_the_address_is_taken_off() -> None:
    for path in {one.path for one in recorded()}:
        assert server_url(f"http://reward-host:8000{path}/") == "http://reward-host:8000"
    assert server_url("http://any:k@h:1/get_reward") == "http://any:k@h:1"
    assert checked("slime", "reward-host:8000") == Exit.USAGE


@pytest.mark.parametrize("one", recorded(), ids=lambda one: one.name)
def test_a_reader_reads_what_the_trainers_own_code_reads(url: str, one: Recorded) -> None:
    """Held against the trainers' code with their own libraries, which the tests install."""
    answer = httpx2.post(url + one.path, json=one.body, timeout=60).json()
    try:
        expected = CLIENTS[one.client](url + one.path, one.body, 0)
    except TypeError:  # of `torch.cat`
        with pytest.raises(Unreadable):
            READERS[one.client](answer, one.body)
        return
    assert READERS[one.client](answer, one.body) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "answer", [{"error": {"type": "overloaded"}}, {"rewards": [None], "score": None}]
)
def test_no_reader_makes_a_number_of_an_error(answer: object) -> None:
    for reader in READERS.values():
        with pytest.raises((Unreadable, TypeError, KeyError, AttributeError)):
            reader(answer, {})


def test_a_recorded_text_gets_a_system_turn_and_loses_the_pads_of_its_tokeniser() -> None:
    (one,) = [one for one in recorded() if one.name == "openrlhf-0.4.0"]
    assert "</s>" in str(one.body)
    sent = one.sent_body["query"][0]
    assert sent.startswith(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user"
    )
    assert "</s>" not in str(one.sent_body)
    assert [item["messages"][0]["role"] for item in one.sent_items] == ["system"] * 3
    assert one.items[0]["messages"][0]["role"] == "user"  # what was recorded stays
    (plain,) = [one for one in recorded() if one.name == "slime-0.3.1-messages"]
    assert plain.sent_items == plain.items
