"""The start lines of docs/trainers/, literally, called from another machine: a network namespace of
its own, joined to the server's by a pair of virtual cables. Every trainer's own client gets there
what transformers computes here."""

from __future__ import annotations

import functools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from candor.jobs.check.adapters import ITEM
from candor.jobs.check.recorded import recorded
from candor.jobs.running.processes import candor
from candor.probes.artifact import load
from tests.docs.trainer_pages import (
    FOLDER,
    INDEX,
    PAGES,
    TRAINERS,
    block,
    block_in,
    fences,
    section,
    start_lines,
    text_of,
)
from tests.paths import ROOT
from tests.serve_process import save_served, serve_environment

pytestmark = pytest.mark.slow

NETWORK = """
set -eu
mount --bind "$HOSTS" /etc/hosts
ip link set lo up
unshare --net sleep 3600 & client=$!
trap 'kill $client $(jobs -p) 2>/dev/null || true' EXIT
until [ "$(readlink /proc/$client/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add server0 type veth peer name client0 netns $client
ip address add 10.123.0.1/24 dev server0
ip link set server0 up
nsenter --net=/proc/$client/ns/net ip address add 10.123.0.2/24 dev client0
nsenter --net=/proc/$client/ns/net ip link set client0 up
elsewhere() { nsenter --net=/proc/$client/ns/net "$@"; }
"""
"""Root of a user namespace: this process has the server's network, `elsewhere` runs a command in
the other. Both resolve the names in $HOSTS."""

WAIT = """
for _ in $(seq 1200); do
  curl -fs http://127.0.0.1:8000/readyz >ready && break
  sleep 0.5
done
"""


def in_namespaces(
    script: str, hosts: Path, *, timeout_s: float = 900
) -> subprocess.CompletedProcess[str]:
    isolated = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
    environment = serve_environment(HOSTS=str(hosts), PYTHONPATH=str(ROOT))
    environment.pop("CANDOR_API_KEY", None)
    return subprocess.run(
        [*isolated, "bash", "-c", NETWORK + script],
        env=environment,
        cwd=hosts.parent,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of names beside a served model, on a machine that lets a user make network
    namespaces."""
    names = tmp_path_factory.mktemp("network") / "hosts"
    names.write_text("127.0.0.1 localhost\n10.123.0.1 reward-host\n")
    try:
        tried = in_namespaces("elsewhere getent hosts reward-host\n", names)
    except FileNotFoundError as error:
        pytest.skip(f"no network namespaces here: {error}")
    if tried.returncode != 0:
        pytest.skip(f"no network namespaces here: {tried.stderr.strip()}")
    save_served(names.parent)
    return names


def as_run(lines: str) -> str:
    """A page's lines with the tiny model, its probe and this environment's command."""
    lines = lines.replace("path/or/hub-id", "model").replace("probes/sycophancy", "sycophancy")
    return re.sub(r"^(exec )?candor ", rf"\1{shlex.join(candor())} ", lines, flags=re.MULTILINE)


def started(lines: str) -> str:
    """The lines as a job, whose last command replaces the shell, so that the trap ends the server
    itself."""
    lines = re.sub(r"^candor serve", "exec candor serve", lines, flags=re.MULTILINE)
    return f"{{ {as_run(lines)}\n}} >log 2>&1 &\n{WAIT}"


START_LINES = [
    one.text.strip()
    for page in [INDEX, *PAGES]
    for one in fences(text_of(page))
    if "candor serve" in one.text
]
AS_TRAINERS = f"{sys.executable} -m tests.docs.as_trainers"


@pytest.fixture(scope="module")
def told(hosts: Path) -> dict[str, tuple[Any, Any]]:
    """By start line: what the trainers on the other machine get with the key, and without it."""
    found = {}
    for lines in dict.fromkeys(map(start_lines, PAGES)):
        ended = in_namespaces(
            f"{started(lines)}\nelsewhere {AS_TRAINERS} api.key\nelsewhere {AS_TRAINERS}\n", hosts
        )
        assert ended.returncode == 0, ended.stderr + (hosts.parent / "log").read_text()
        with_key, without = map(json.loads, ended.stdout.splitlines())
        found[lines] = (with_key, without)
    return found


@functools.cache
def computed(folder: Path, messages: str, response: str) -> tuple[float, float]:
    """R and the penalty by transformers alone: R of the text, S of the response's tokens by hand,
    and the card's numbers for kappa 1."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    model.config.pad_token_id = None
    turns = [*json.loads(messages), {"role": "assistant", "content": response}]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    begin = text.rindex(response)
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    span = [
        n
        for n, (a, b) in enumerate(read["offset_mapping"])
        if begin <= a < b <= begin + len(response)
    ]
    with torch.inference_mode():
        out = model(torch.tensor([read["input_ids"]]), output_hidden_states=True)
    probe = load(folder / "sycophancy")
    hidden = out.hidden_states[probe.card.layer][0, span]
    score = float((hidden @ probe.probe.weight + probe.probe.bias).mean())
    calibration, bound = probe.card.calibration, probe.card.bound
    assert calibration is not None
    assert calibration.std_bounded_S is not None
    assert bound.low is not None
    assert bound.high is not None
    lambda_ = 1.0 * calibration.std_R / calibration.std_bounded_S
    return float(out.logits[0, 0]), lambda_ * min(max(score, bound.low), bound.high)


def expected(folder: Path, items: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """R and penalty of every response."""
    return [
        computed(folder, json.dumps(item["messages"]), response)
        for item in items
        for response in item["responses"]
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_trainer_gets_its_rewards_from_another_machine(
    hosts: Path, told: dict[str, tuple[Any, Any]], page: Path
) -> None:
    with_key, without = told[start_lines(page)]
    items = {one.name: one.items for one in recorded()}
    assert with_key[page.stem]
    for name, rewards in with_key[page.stem].items():
        wanted = expected(hosts.parent, items.get(name, [ITEM]))
        assert rewards == pytest.approx([r - penalty for r, penalty in wanted], abs=1e-3), name
        assert any(abs(penalty) > 0.1 for _, penalty in wanted), "R alone would be another number"
        assert isinstance(without[page.stem][name], str), "without the key it is refused"


def test_the_check_of_every_page_is_content_with_its_server(hosts: Path) -> None:
    """Each page's own export and `candor check`, on the other machine."""
    script = started(start_lines(INDEX))
    pages = [page for page in [INDEX, *PAGES] if "candor check --" in text_of(page)]
    for page in pages:
        ours = [one.text for one in fences(text_of(page)) if one.language == "sh"]
        exports = [one.strip() for one in ours if one.startswith("export ")]
        (check,) = [one.strip() for one in ours if one.startswith("candor check")]
        command = as_run(check.replace("KEY", "$(cat api.key)")).strip()
        script += "\n".join(["(", *exports, f"elsewhere {command} | tail -1", ")\n"])
    ended = in_namespaces(script, hosts)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert len(lines) == len(pages) == len(TRAINERS)
    assert all("can use this server" in line for line in lines), lines


def test_the_line_for_the_advantage_side_answers_both_parts_from_another_machine(
    hosts: Path,
) -> None:
    lines = [one for one in START_LINES if "--method advantage" in one]
    assert len(lines) == 1
    (hosts.parent / "item.json").write_text(json.dumps({"items": [ITEM]}))
    ask = "curl -s http://any:$(cat api.key)@reward-host:8000/v1/rewards -d @item.json"
    json_type = "-H 'Content-Type: application/json'"
    ended = in_namespaces(f"{started(lines[0])}\nelsewhere {ask} {json_type}\n", hosts)
    answers = json.loads(ended.stdout)["results"][0]["responses"]
    for answer, (reward, penalty) in zip(answers, expected(hosts.parent, [ITEM]), strict=True):
        assert answer["reward"] == pytest.approx(reward, abs=1e-3)
        assert answer["advantage_penalty"] == pytest.approx(penalty, abs=1e-3)


def test_every_line_that_starts_a_server_is_one_of_these() -> None:
    known = {start_lines(INDEX), block(INDEX, "candor serve"), *map(start_lines, PAGES)}
    others = {*START_LINES} - known
    assert all("--method advantage" in one for one in others)
    assert all("--host 0.0.0.0" in one for one in START_LINES)


def test_the_pages_request_by_curl_is_answered_from_another_machine(hosts: Path) -> None:
    ask = block(FOLDER / "http.md", "export CANDOR_API_KEY=")
    export, _, curl = ask.partition("\n")
    ready = block_in(section(FOLDER / "http.md", "Check it"), "curl")
    wrong = curl.replace("$CANDOR_API_KEY", "wrong").replace("curl", "elsewhere curl -s", 1)
    ended = in_namespaces(
        f"{started(start_lines(FOLDER / 'http.md'))}\n{export}\n"
        f"{curl.replace('curl', 'elsewhere curl -s', 1)}\necho\n{wrong}\necho\nelsewhere {ready}",
        hosts,
    )
    assert ended.returncode == 0, ended.stderr
    answered, refused, is_ready = map(json.loads, ended.stdout.splitlines())
    assert [one["num_tokens"] > 0 for one in answered["results"][0]["responses"]] == [True, True]
    assert refused["error"]["type"] == "unauthorized"
    assert is_ready["status"] == "ready"


def test_without_the_host_flag_only_its_own_machine_reaches_the_server(hosts: Path) -> None:
    lines = start_lines(INDEX)
    assert "--host 0.0.0.0" in lines
    ask = "curl -s -o answer -w '%{http_code} %{exitcode}\\n' http://reward-host:8000/readyz"
    ended = in_namespaces(
        f"{started(lines.replace('--host 0.0.0.0', ''))}\n"
        f"curl -s -o answer -w '%{{http_code}}\\n' http://127.0.0.1:8000/readyz\n"
        f"elsewhere {ask} || true\n",
        hosts,
    )
    own, other = ended.stdout.splitlines()
    assert own == "200"
    assert other == "000 7", "connection refused"


def test_a_server_without_a_key_needs_the_name_and_the_refusal_says_the_flag(hosts: Path) -> None:
    lines = block(INDEX, "candor serve")
    assert lines.endswith(" --host-name reward-host")
    ask = "elsewhere curl -s http://reward-host:8000/v1/models; echo"
    address = "elsewhere curl -s http://10.123.0.1:8000/v1/models; echo"
    without = lines.removesuffix(" --host-name reward-host")
    first = in_namespaces(f"{started(without)}\n{ask}\n{address}\n", hosts)
    refused, answered = (json.loads(line) for line in first.stdout.splitlines())
    assert answered["data"][0]["id"] == "model"
    assert re.findall(r"--host-name \S+", refused["error"]["message"]) == [
        "--host-name reward-host"
    ]
    second = in_namespaces(f"{started(lines)}\n{ask}\n", hosts)
    assert json.loads(second.stdout)["data"][0]["id"] == "model"


def test_a_server_that_others_reach_does_not_start_without_a_key(hosts: Path) -> None:
    lines = block(INDEX, "candor serve").replace("--insecure-no-auth --host-name reward-host", "")
    ended = in_namespaces(as_run(lines), hosts)
    assert ended.returncode == 2
    message = ended.stderr.strip().splitlines()[-1]
    assert message.partition(": ")[2] or message
    assert "is reachable from other machines and there is no API key" in message
