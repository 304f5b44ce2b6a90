"""Probes and rows on the Hub, through huggingface_hub's and datasets' own code, against a local
stand-in of the Hub's layout (tests/hub.py). No test has met the Hub itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from candor.probes import artifact
from candor.probes.sources.hub import HubDataSet, parse_hub
from candor.probes.sources.repositories import Repository, located, parse_repository
from tests.hub import LocalHub, running_hub
from tests.service.serving import loaded_probe


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with running_hub() as hub:
        yield hub


def candor(hub: LocalHub, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own: the Hub's address is read at import."""
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_DATASETS_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": "hf_of_ours",
    }
    return subprocess.run(
        [sys.executable, "-m", "candor", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
    )


def test_a_probe_goes_to_the_hub_and_comes_back_the_same(hub: LocalHub, tmp_path: Path) -> None:
    probe = loaded_probe("sycophancy")
    artifact.save(tmp_path / "probe", probe.probe, probe.card)
    (tmp_path / "probe" / "report.json").write_text('{"examples": ["private"]}')
    told = candor(hub, tmp_path, "probe", "push", "--probe=probe", "--to=org/probe", "--private")
    assert told.returncode == 0, told.stderr
    place = json.loads(told.stdout)["probe"]
    stored = hub.repositories["models", "org/probe"]
    assert stored.private
    assert place == f"org/probe@{stored.names['main']}"
    files = stored.commits[stored.names["main"]]
    assert sorted(files) == [".gitattributes", "README.md", "card.json", "probe.safetensors"]
    assert hub.tokens == {"hf_of_ours"}
    readme = files["README.md"].decode()
    assert readme.startswith("---\nlibrary_name: candor\n")
    assert "candor serve --model MODEL --probe org/probe@COMMIT --kappa sycophancy=1" in readme

    # A commit stays what it was when the branch moves on.
    hub.add("models", "org/probe", {"card.json": b"{}"})
    told = candor(hub, tmp_path, "probe", "pull", f"--probe={place}", "--out=back")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["sha256"] == probe.sha256
    assert artifact.load(tmp_path / "back").sha256 == probe.sha256
    told = candor(hub, tmp_path, "probe", "pull", "--probe=org/probe", "--out=newest")
    assert told.returncode == 2
    assert "card_version None" in told.stderr  # the control: the branch's card is another
    assert not (tmp_path / "newest").exists()

    words = ("--rollouts=none.jsonl", "--model=m", f"--probe={place}")
    told = candor(hub, tmp_path, "probe", "calibrate", *words)
    assert f"--probe {place}: is on the Hub; give --out, a folder to write" in told.stderr

    served = candor(hub, tmp_path, "serve", "--model=none/such", f"--probe={place}", "--port=0")
    assert served.returncode == 1  # the probe was found; the model is not there
    assert "none/such" in served.stdout + served.stderr
    none = candor(hub, tmp_path, "serve", "--model=m", "--probe=org/gone", "--port=0")
    assert none.returncode == 2
    *_, line = none.stderr.splitlines()
    assert "no folder org/gone, and the Hub says: 404 Client Error. Repository Not Found" in line


def test_a_pull_does_not_replace_another_probe(hub: LocalHub, tmp_path: Path) -> None:
    one, other = loaded_probe("sycophancy"), loaded_probe("length", layer=1)
    for name, probe in (("one", one), ("other", other)):
        artifact.save(tmp_path / name, probe.probe, probe.card)
    files = {
        name: (tmp_path / "one" / name).read_bytes() for name in ("card.json", "probe.safetensors")
    }
    commit = hub.add("models", "org/one", files)
    words = ("probe", "pull", f"--probe=org/one@{commit}", "--out=other")
    told = candor(hub, tmp_path, *words)
    assert told.returncode == 2
    assert "--out other: holds another probe; give --force" in told.stderr
    assert artifact.load(tmp_path / "other").sha256 == other.sha256
    assert candor(hub, tmp_path, *words, "--force").returncode == 0
    assert artifact.load(tmp_path / "other").sha256 == one.sha256
    assert candor(hub, tmp_path, *words).returncode == 0  # the same probe: nothing is lost


def test_rows_of_a_data_set_on_the_hub(hub: LocalHub, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    row = {"prompt": "Is the sea blue?", "chosen": "It is.", "rejected": "It is not."}
    lines = "".join(json.dumps(row | {"id": n}) + "\n" for n in range(2))
    commit = hub.add("datasets", "org/rows", {"train.jsonl": lines.encode()})
    hub.add("datasets", "org/rows", {"train.jsonl": b'{"other": 1}\n'})
    words = ("data", "convert", f"--rows=hf:org/rows@{commit}:train", "--out=rows.jsonl")
    told = candor(hub, tmp_path, *words)
    assert told.returncode == 0, told.stderr
    assert "2 rows (TRL preference); keys: id" in told.stderr
    first, _ = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    assert first["responses"] == [
        {"text": "It is.", "chosen": True},
        {"text": "It is not.", "chosen": False},
    ]
    manifest = json.loads((tmp_path / "rows.jsonl.manifest.json").read_bytes())
    assert manifest["inputs"]["rows"]["path"] == f"hf:org/rows@{commit}:train"
    assert len(manifest["inputs"]["rows"]["sha256"]) == 64
    for source, message in (
        ("hf:org/rows:test", "Unknown split"),
        ("hf:org/gone:train", "doesn't exist on the Hub"),
        ("hf:org/rows", "is written hf:org/name:split"),
    ):
        told = candor(hub, tmp_path, "data", "convert", f"--rows={source}", "--out=none.jsonl")
        assert told.returncode == 2
        assert f"candor: {source}: " in told.stderr
        assert message in told.stderr
        assert "Traceback" not in told.stderr


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("org/name", Repository("org/name", None)),
        ("org/name@v1.0", Repository("org/name", "v1.0")),
        ("org/name@refs/pr/1", Repository("org/name", "refs/pr/1")),
        ("name", None),
        ("./org/name", None),
        ("/org/name", None),
        ("a/b/c", None),
        ("org/name@", None),
    ],
)
def test_which_texts_name_a_repository(text: str, wanted: Repository | None) -> None:
    assert parse_repository(text) == wanted


def test_a_folder_comes_before_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert located("org/name") == Path("org/name")
    assert located(tmp_path / "gone") == tmp_path / "gone"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hf:org/name:train", HubDataSet("org/name", None, None, "train")),
        ("hf:org/name/part:train[:9]", HubDataSet("org/name", "part", None, "train[:9]")),
        ("hf:org/name@v1:test", HubDataSet("org/name", None, "v1", "test")),
        ("hf:org/name/part@v1:test", HubDataSet("org/name", "part", "v1", "test")),
    ],
)
def test_the_parts_of_a_data_sets_name(text: str, wanted: HubDataSet) -> None:
    assert parse_hub(text) == wanted
    assert parse_hub(Path(text)) == wanted


@pytest.mark.parametrize("text", ["hf:org/name", "hf:name:train", "hf::train", "hf:org/name:"])
def test_a_name_without_a_split_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="is written hf:org/name:split"):
        parse_hub(text)
