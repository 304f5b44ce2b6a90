"""The address of docs/trainers.md, literally, called from another machine: a network namespace of
its own, joined to the server's by a pair of virtual cables."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from candor.jobs.running.processes import candor
from tests.paths import ROOT
from tests.serve_process import save_served, serve_environment

NETWORK = """
set -eu
mount --bind "$HOSTS" /etc/hosts
ip link set lo up
unshare --net sleep 600 & client=$!
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


def in_namespaces(script: str, hosts: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "bash",
            "-c",
            NETWORK + script,
        ],
        env=serve_environment(HOSTS=str(hosts)),
        cwd=hosts.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """A file of names, on a machine that lets a user make network namespaces."""
    names = tmp_path / "hosts"
    names.write_text("127.0.0.1 localhost\n10.123.0.1 reward-host\n")
    try:
        tried = in_namespaces("elsewhere getent hosts reward-host\n", names)
    except FileNotFoundError as error:
        pytest.skip(f"no network namespaces here: {error}")
    if tried.returncode != 0:
        pytest.skip(f"no network namespaces here: {tried.stderr.strip()}")
    return names


def block(words: str) -> str:
    """The shell block of docs/trainers.md that begins with these words."""
    page = (ROOT / "docs" / "trainers.md").read_text(encoding="utf-8")
    (found,) = [
        one for one in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if one.startswith(words)
    ]
    return str(found)


WAIT = """
for _ in $(seq 600); do
  elsewhere curl -fs http://reward-host:8000/readyz >ready && break
  sleep 0.5
done
"""


def test_the_documented_address_answers_from_another_machine(hosts: Path) -> None:
    save_served(hosts.parent)
    serve = block("openssl rand -hex 32 > api.key\ncandor serve").strip()
    serve = serve.replace("path/or/hub-id", "model").replace("probes/sycophancy", "sycophancy")
    serve = re.sub(r"^candor ", f"{shlex.join(candor())} ", serve, flags=re.MULTILINE)
    ask = block("curl http://reward-host:8000/v1/rewards").strip()
    ended = in_namespaces(
        f"{serve} >log 2>&1 &\n{WAIT}\nexport CANDOR_API_KEY=$(cat api.key)\n"
        f"elsewhere {ask}\necho\n"
        f"elsewhere {ask.replace('$CANDOR_API_KEY', 'wrong')}\necho\n",
        hosts,
    )
    assert ended.returncode == 0, ended.stderr + (hosts.parent / "log").read_text()
    answered, refused = (json.loads(line) for line in ended.stdout.splitlines())
    assert len(answered["results"][0]["responses"]) == 2
    assert refused["error"]["type"] == "unauthorized"


def test_an_open_server_names_the_flag_and_the_flag_is_right(hosts: Path) -> None:
    save_served(hosts.parent)
    serve = shlex.join(
        [*candor("serve", "--model=model"), "--host=0.0.0.0", "--insecure-no-auth", "--port=8000"]
    )
    ask = "elsewhere curl -s http://reward-host:8000/v1/models; echo"
    address = "elsewhere curl -s http://10.123.0.1:8000/v1/models; echo"
    first = in_namespaces(f"{serve} >log 2>&1 &\n{WAIT}\n{ask}\n{address}\n", hosts)
    refused, answered = (json.loads(line) for line in first.stdout.splitlines())
    assert answered["data"][0]["id"] == "model"
    message = refused["error"]["message"]
    (flag,) = re.findall(r"--host-name \S+", message)
    assert flag == "--host-name reward-host"
    second = in_namespaces(f"{serve} {flag} >log 2>&1 &\n{WAIT}\n{ask}\n", hosts)
    assert json.loads(second.stdout)["data"][0]["id"] == "model"
