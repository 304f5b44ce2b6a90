"""`candor serve` as a process: it starts, says what it loaded, scores, drains and leaves."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx2
import pytest

from candor.jobs.running.processes import candor, free_port
from candor.probes.identity import weights_sha256
from tests.paths import ROOT
from tests.serve_process import ServeProcess, save_served, serve_environment
from tests.service.serving import BODY, save_probe, wait_for

pytestmark = pytest.mark.slow  # each server imports torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny RM, a probe of it, a monitor of it and a probe of another."""
    folder = tmp_path_factory.mktemp("served")
    save_served(folder)
    sha = weights_sha256(folder / "model")
    save_probe(folder / "watched", "watched", sha)
    save_probe(folder / "foreign", "foreign", "f" * 64)
    return folder


@pytest.fixture
def serving(folder: Path) -> Iterator[ServeProcess]:
    """The server with its probes, ready."""
    serving = ServeProcess(
        folder,
        "--probe",
        str(folder / "sycophancy"),
        "--penalty",
        "sycophancy=0.5",
        "--monitor",
        str(folder / "watched"),
        "--drain-s",
        "300",
    )
    try:
        serving.wait_ready()
        yield serving
    finally:
        serving.stop()


class Crowd:
    """Callers who ask again as soon as they are answered, until one answer after the signal.

    So however fast the server is, it has work in flight at any moment. No two texts are equal,
    because equal ones are computed once.
    """

    def __init__(self, url: str, callers: int) -> None:
        self.url = url
        self.signalled = threading.Event()
        self.outcomes: list[str] = []
        self.in_flight: list[str] = []
        """Outcomes of what was asked before the signal and ended after it."""
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(callers)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(300)
            assert not thread.is_alive()

    def _ask(self, caller: int) -> None:
        for number in range(1_000_000):
            too_late = self.signalled.is_set()
            outcome = self._outcome([f"{caller} {number} {n} " + "good " * 30 for n in range(50)])
            self.outcomes.append(outcome)
            if self.signalled.is_set() and not too_late:
                self.in_flight.append(outcome)
            if too_late or outcome != "answered":
                return

    def _outcome(self, responses: list[str]) -> str:
        body = {"items": [{"prompt": "The poem is", "templated": True, "responses": responses}]}
        try:
            answer = httpx2.post(f"{self.url}/v1/rewards", json=body, timeout=300).json()
        except httpx2.ConnectError:
            return "closed"
        if "error" in answer:
            return str(answer["error"]["type"])
        assert len(answer["results"][0]["responses"]) == len(responses)
        return "answered"


def test_it_serves_and_on_sigterm_answers_what_is_in_flight_and_leaves_with_0(
    serving: ServeProcess,
) -> None:
    answer = httpx2.post(f"{serving.url}/v1/rewards", json=BODY).json()
    scored = answer["results"][0]["responses"][0]
    assert scored["probes"]["sycophancy"]["lambda"] == 0.5
    assert scored["reward"] == scored["base_reward"] - scored["penalty"]
    assert answer["model"]["engine"] == "packed"
    assert "watched" not in scored["probes"]
    assert "score.watched" in httpx2.get(f"{serving.url}/v1/drift").json()["signals"]

    crowd = Crowd(serving.url, callers=8)
    busy = "candor_queue_items 0.0"
    wait_for(lambda: busy not in httpx2.get(f"{serving.url}/metrics").text, 300)
    serving.process.send_signal(signal.SIGTERM)
    crowd.signalled.set()
    crowd.join()
    # Refused by name while the port is open, by the system once it is closed; never lost.
    assert set(crowd.outcomes) <= {"answered", "draining", "closed"}
    assert "answered" in crowd.in_flight
    assert serving.process.wait(300) == 0
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", serving.port))

    lines = {line["event"]: line for line in serving.lines()}
    assert lines["inspector"]["url"] == f"{serving.url}/inspector"
    assert lines["model_loaded"]["dtype"] == "float32"
    assert lines["model_loaded"]["max_length"] == 256
    assert lines["drained"]["cut"] == 0
    probes = [line for line in serving.lines() if line["event"] == "probe_loaded"]
    assert [(line["probe"], line["served_lambda"], line["monitor"]) for line in probes] == [
        ("sycophancy", 0.5, False),
        ("watched", 0.0, True),
    ]
    # A clip below zero pays for a low S; the monitor has no penalty, so nothing is said of it.
    warned = [line for line in serving.lines() if line["event"] == "bound_can_raise_reward"]
    assert [(line["probe"], line["level"]) for line in warned] == [("sycophancy", "warning")]
    assert "The bound (clip)" in warned[0]["message"]
    # Neither card says how the probe ranks the responses to one prompt.
    unknown = [line for line in serving.lines() if line["event"] == "within_prompt_auroc_unknown"]
    assert [(line["probe"], line["level"]) for line in unknown] == [
        ("sycophancy", "warning"),
        ("watched", "warning"),
    ]
    assert "poem" not in serving.log.read_text()


@pytest.mark.parametrize("flag", ["--inspector", "--no-inspector"])
def test_on_a_terminal_it_says_where_the_inspector_is(folder: Path, flag: str) -> None:
    """On port 0, which only the server knows. The last line is what a person looks for."""
    near, far = pty.openpty()
    process = subprocess.Popen(
        candor("serve", str(folder / "model"), "--port", "0", flag),
        env=serve_environment(),
        stdin=subprocess.DEVNULL,
        stdout=far,
        stderr=far,
    )
    os.close(far)
    printed = ""
    try:
        while "ready  " not in printed:
            printed += os.read(near, 4096).decode()
        port = re.findall(r"http://127\.0\.0\.1:(\d+)", printed)[0]
        page = f"http://127.0.0.1:{port}/inspector"
        assert httpx2.get(page).status_code == (200 if flag == "--inspector" else 404)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):  # a terminal that nobody writes to any more
            while more := os.read(near, 4096).decode():
                printed += more
        said = re.findall(r"^inspector: (\S+)", printed, re.MULTILINE)
        assert said == ([page] if flag == "--inspector" else [])
    finally:
        process.kill()
        process.wait(20)
        os.close(near)


def test_a_stalled_body_does_not_hold_the_exit(serving: ServeProcess) -> None:
    with socket.create_connection(("127.0.0.1", serving.port)) as connection:
        connection.sendall(
            b"POST /v1/rewards HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        time.sleep(0.3)
        serving.process.send_signal(signal.SIGTERM)
        # Well under the 30 s that the body would have had.
        assert serving.process.wait(15) == 0


def test_work_that_outlasts_the_drain_is_told_so_and_the_exit_says_75(folder: Path) -> None:
    # One item per forward: 16,000 forwards in 3 s would be 0.2 ms each, and torch
    # takes longer on any machine.
    serving = ServeProcess(folder, CANDOR_SERVE_DRAIN_S="3", CANDOR_SERVE_MAX_BATCH_TOKENS="1")
    try:
        serving.wait_ready()
        items = [{"prompt": "The poem is", "templated": True, "responses": ["good"] * 4000}] * 4
        replies: list[httpx2.Response] = []

        def post() -> None:
            replies.append(
                httpx2.post(
                    f"{serving.url}/v1/rewards",
                    json={"items": items},
                    headers={"x-request-timeout": "600"},
                    timeout=600,
                )
            )

        thread = threading.Thread(target=post)
        thread.start()
        in_queue = "candor_queue_items 0.0"
        wait_for(lambda: in_queue not in httpx2.get(f"{serving.url}/metrics").text, 300)
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(300) == 75
        thread.join(300)
        assert replies[0].status_code == 503
        assert replies[0].json()["error"]["type"] == "draining"
        assert replies[0].json()["error"]["retryable"]
    finally:
        serving.stop()


def test_a_second_signal_leaves_at_once(serving: ServeProcess) -> None:
    serving.process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    serving.process.send_signal(signal.SIGINT)
    # Nothing is in flight: the end of the drain would have said 0.
    assert serving.process.wait(300) == 75


def test_the_keys_are_asked_for_and_not_warned_of_or_logged(folder: Path) -> None:
    operator = folder / "operator-key"
    operator.write_text("0perator\n")
    serving = ServeProcess(
        folder,
        "--operator-key-file",
        str(operator),
        CANDOR_API_KEY="k3y",
        CANDOR_SERVE_ENGINE="padded",
        CANDOR_SERVE_DRIFT_WINDOW="0",
    )
    try:
        serving.wait_ready()
        assert httpx2.post(f"{serving.url}/v1/rewards", json=BODY).status_code == 401
        named = httpx2.post(
            f"http://user:k3y@127.0.0.1:{serving.port}/v1/rewards", json=BODY, timeout=60
        )
        assert named.status_code == 200
        assert named.json()["model"]["formula"] == "R"
        assert named.json()["model"]["engine"] == "padded"
        drift = {
            key: httpx2.get(f"http://user:{key}@127.0.0.1:{serving.port}/v1/drift")
            for key in ("k3y", "0perator")
        }
        assert drift["k3y"].status_code == 401
        assert drift["0perator"].status_code == 404
        assert "--drift-window 0" in drift["0perator"].json()["error"]["message"]
        assert not [line for line in serving.lines() if line["event"] == "key_on_command_line"]
        assert "k3y" not in serving.log.read_text()
        assert "0perator" not in serving.log.read_text()
    finally:
        serving.stop()


def finished(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        candor(*arguments),
        cwd=ROOT,
        env=serve_environment(CANDOR_SERVE_PORT=str(free_port())),
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_wrong_settings_leave_with_2_and_one_line(folder: Path) -> None:
    model = ("serve", "--model", str(folder / "model"))
    probe = ("--probe", str(folder / "sycophancy"))
    for arguments, words in (
        ((*model, "--host", "0.0.0.0"), "--insecure-no-auth"),
        ((*model, *probe, "--penalty", "flattery=1"), "served probes: sycophancy"),
        ((*model, "--probe", str(folder / "model")), "probe directory"),
        ((*model, "--drift-reference", str(folder / "absent.json")), "absent.json: cannot be read"),
    ):
        ended = finished(*arguments)
        assert ended.returncode == 2
        *phases, last = ended.stderr.splitlines()
        assert words in last
        assert last.startswith("candor: ")
        assert {json.loads(line)["event"] for line in phases} <= {"starting"}


def test_an_address_that_cannot_be_bound_is_named_before_the_model_is_loaded(folder: Path) -> None:
    model = ("serve", "--model", str(folder / "model"))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        taken = finished(*model, "--port", port)
    absent = finished(*model, "--host", "192.0.2.1", "--insecure-no-auth", "--port", port)
    unknown = finished(*model, "--host", "no.invalid", "--insecure-no-auth")
    for ended, words in (
        (taken, f"--port {port}: another process has this port on 127.0.0.1"),
        (absent, "--host 192.0.2.1"),
        (unknown, "--host no.invalid"),
    ):
        assert ended.returncode == 2
        line = ended.stderr.splitlines()[-1]
        assert words in line
        assert line.startswith("candor: ")


def test_a_model_that_cannot_be_loaded_leaves_with_1_and_says_why(folder: Path) -> None:
    reference = {
        "weights_sha256": "f" * 64,
        "template_sha256": "f" * 64,
        "probes": {},
        "columns": {"base_reward": [0.0] * 128, "response_tokens": [1.0] * 128},
    }
    (folder / "reference.json").write_text(json.dumps(reference))
    for arguments, words in (
        (
            ("--model", str(folder / "model"), "--drift-reference", str(folder / "reference.json")),
            "other model weights",
        ),
        (("--model", str(folder / "sycophancy")), "config.json"),
        (("--model", str(folder / "model"), "--probe", str(folder / "foreign")), "weights"),
    ):
        ended = finished("serve", *arguments)
        assert ended.returncode == 1
        failures = [
            json.loads(line) for line in ended.stderr.splitlines() if '"load_failed"' in line
        ]
        assert words in failures[0]["reason"]
        assert "Traceback" not in ended.stderr
        last = ended.stderr.splitlines()[-1]
        assert last == f"candor: the server did not start: {failures[0]['reason']}"


def finished_without(modules: Sequence[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`candor` with these arguments, in an environment that lacks `modules`."""
    code = (
        "import sys\nfrom candor.__main__ import main\n"
        f"sys.modules |= dict.fromkeys({list(modules)!r})\nsys.argv = {['candor', *arguments]!r}\n"
        "main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def said(ended: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on stderr but those that say what is imported, where that takes long."""
    lines = ended.stderr.strip().splitlines()
    return [line for line in lines if not line.startswith("candor: importing")]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, "serve"),
        (["--version"], 0, "0.1.0"),
        (["serve", "--help"], 0, "--penalty"),
        (["score", "--help"], 0, "--rollouts"),
        (["rl", "--help"], 0, "--group-size"),
        (["generator", "--help"], 0, "--served-model-name"),
        (["serve", "--model", "m", "--port", "-1"], 2, "--port -1: must be between 0 and 65535"),
        (["serve", "--model", "m", "--prot", "1"], 2, "--prot"),
        (["scroe"], 2, "no command scroe; did you mean score?"),
        (["probe", "trian"], 2, "no command probe trian; did you mean train?"),
        (["what"], 2, "no command what; there are serve, check, env, generate, score"),
    ],
)
def test_help_and_wrong_flags_need_no_torch(arguments: list[str], status: int, words: str) -> None:
    ended = finished_without(["torch", "transformers", "fastapi", "uvicorn"], *arguments)
    assert ended.returncode == status, ended.stderr
    assert words in (ended.stdout if status == 0 else ended.stderr)
    if status != 0:
        assert len(said(ended)) == 1


@pytest.mark.parametrize(
    ("missing", "arguments", "command", "extra"),
    [
        ("cyclopts", ["serve", "m"], "candor serve", "server"),
        ("cyclopts", ["score", "x"], "candor score", "jobs"),
        ("torch", ["serve", "m"], "candor serve", "server"),
        ("torch", ["generator", "--model", "m"], "candor generator", "server"),
        ("torch", ["probe", "train", "x"], "candor probe train", "lab"),
        ("httpx2", ["bon", "x"], "candor bon", "jobs"),
    ],
)
def test_a_command_without_its_packages_says_what_to_install(
    missing: str, arguments: list[str], command: str, extra: str
) -> None:
    ended = finished_without([missing], *arguments)
    assert ended.returncode == 1
    assert [line for line in said(ended) if '"starting"' not in line] == [
        f"{command}: packages are missing: pip install 'candor-rewards[{extra}]' "
        f"(no module {missing!r})"
    ]
