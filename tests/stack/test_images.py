"""The Dockerfiles against what they copy and install. Not tested here: that the images build."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.stack.composed import ROOT, stack

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILES = sorted(ROOT.glob("docker/*.Dockerfile"))
BUILD_FILES = {
    "pyproject.toml",
    "constraints.txt",
    "hatch_build.py",
    "README.md",
    "LICENSE",
}
"""What the wheel is built from beside its packages."""


def copied(dockerfile: Path) -> set[str]:
    """Sources in the repository; not those of another stage."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", dockerfile.read_text(), re.MULTILINE)
    return {source for line in lines for source in line.split()[:-1]}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_built_from_all_that_the_wheel_is_made_of(dockerfile: Path) -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    packages = {"client", *(package.partition("/")[0] for package in wheel["packages"])}
    sources = copied(dockerfile)
    assert packages | BUILD_FILES <= sources
    assert not [source for source in sources if not (ROOT / source).exists()]


def test_the_builder_gets_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert let_in == set().union(*(copied(path) for path in DOCKERFILES))
    assert not let_in & {"secrets", "build", "runs", ".git"}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_every_package_an_image_installs_has_an_exact_version(dockerfile: Path) -> None:
    text = dockerfile.read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install --constraint constraints\.txt (.+)$", text, re.MULTILINE)
    assert len(installs) == text.count("pip install")
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    names = {name for line in installs for name in line.split() if not name.startswith(("'.", "."))}
    assert names <= {name.lower() for name in pinned}
    extras = {extra for line in installs for extra in re.findall(r"'\.\[(\w+)\]'", line)}
    assert extras <= PROJECT["project"]["optional-dependencies"].keys()


def stages(dockerfile: Path) -> dict[str, str]:
    """What each stage's own lines and those of the stages it is built on say, by the stage's name;
    the last stage is also there as ""."""
    found: dict[str, str] = {}
    for part in re.split(r"^FROM ", dockerfile.read_text(), flags=re.MULTILINE)[1:]:
        head, _, lines = part.partition("\n")
        base, _, name = head.partition(" AS ")
        found[name] = found[""] = found.get(base, "") + lines
    return found


REWARD, JOBS = (stages(ROOT / "docker" / f"{name}.Dockerfile") for name in ("reward", "jobs"))


def test_what_runs_on_a_gpu_has_a_compiler_at_run_time_and_the_torch_free_jobs_have_none() -> None:
    """Triton looks for gcc when a kernel first runs; Debian's g++ brings it."""
    compiler = re.compile(r"apt-get install [^\n]*\bg\+\+")
    for stage in (REWARD["build"], REWARD[""], JOBS["lab-build"], JOBS["lab"]):
        assert compiler.search(stage)
    assert not compiler.search(JOBS["jobs"] + JOBS["jobs-build"])
    assert JOBS[""] == JOBS["jobs"]


def test_compiled_kernels_are_written_where_the_container_can_write_and_load_them() -> None:
    services = stack("gpu")["services"]
    for stage, name in ((REWARD[""], "reward"), (JOBS["lab"], "rl"), (JOBS["lab"], "bench")):
        for variable in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "HF_HOME"):
            (path,) = re.findall(rf"{variable}=(\S+)", stage)
            folder = path.split("/")[1]
            named = any(mount == f"{name}:/{folder}" for mount in services[name]["volumes"])
            assert named or f"/{folder}:exec" in services[name]["tmpfs"], (name, variable)
