"""What the two wheels hold and ask for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.packaging.environments import (
    OURS,
    SOURCES,
    Environment,
    Wheels,
    build_wheels,
    closure,
    contents,
    requirements,
)
from tests.paths import ROOT


def sources(root: str) -> set[str]:
    """Every file of one source root, as an installed file is named."""
    found = (path for path in (ROOT / root / "candor").rglob("*") if path.is_file())
    return {
        path.relative_to(ROOT / root).as_posix()
        for path in found
        if "__pycache__" not in path.parts and path.suffix not in {".so", ".partial"}
    }


def test_the_client_wheel_holds_the_client_and_nothing_else(wheels: Wheels) -> None:
    assert contents(wheels.client) == sources("client")
    assert all(name.startswith("candor/client/") for name in sources("client"))
    assert "candor/client/py.typed" in contents(wheels.client)
    assert wheels.client.name.endswith("-py3-none-any.whl")


def test_the_rewards_wheel_holds_the_other_source_roots_and_the_script(wheels: Wheels) -> None:
    ours = set().union(*(sources(root) for root in SOURCES if root != "client"))
    assert contents(wheels.rewards) == ours | {"candor_rewards.py"}
    assert not any(name.startswith("candor/client/") for name in ours)


def test_neither_wheel_makes_candor_a_package_of_its_own(wheels: Wheels) -> None:
    """An `__init__.py` there would hide the other wheel's half."""
    for wheel in wheels.both:
        assert "candor/__init__.py" not in contents(wheel)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.slow
def test_with_a_compiler_the_wheel_carries_the_kernel_and_names_its_platform(
    tmp_path: Path, wheels: Wheels
) -> None:
    compiled = build_wheels(tmp_path, compiler="g++").rewards
    kernel = contents(compiled) - contents(wheels.rewards)
    assert kernel == {"candor/forward/native_attention.so"}
    assert "-py3-none-linux" in compiled.name
    assert wheels.rewards.name.endswith("-py3-none-any.whl")


def test_the_client_needs_neither_torch_nor_numpy(wheels: Wheels) -> None:
    assert {Requirement(line).name for line in requirements(wheels.client)} == {
        "httpx2",
        "pydantic",
    }
    assert not {"torch", "numpy"} & closure([wheels.client], []).keys()


def test_the_jobs_extra_needs_what_its_commands_import(wheels: Wheels) -> None:
    def direct(extra: str) -> set[str]:
        lines = map(Requirement, requirements(wheels.rewards))
        return {one.name for one in lines if one.marker and one.marker.evaluate({"extra": extra})}

    wanted = {"cyclopts", "jinja2", "numpy", "orjson", "pyyaml", "scipy", "structlog", "tqdm"}
    assert direct("jobs") == wanted
    assert {"httpx2", "pydantic"} <= closure(wheels.both, ["jobs"]).keys()
    assert not {"torch", "transformers", "fastapi"} & closure(wheels.both, ["jobs"]).keys()


def test_the_demo_needs_no_trainer_no_ray_and_no_tool_of_contributors(wheels: Wheels) -> None:
    unwanted = {"trl", "datasets", "ray", "vllm", "mypy", "pytest", "scikit-learn"}
    assert {"torch", "gguf", "matplotlib"} <= closure(wheels.both, ["demo"]).keys()
    assert not unwanted & closure(wheels.both, ["demo"]).keys()


def test_the_environments_hold_the_wheels_and_not_the_clone(
    client: Environment, jobs: Environment, tmp_path: Path
) -> None:
    code = (
        "import candor, candor.client.reward as r\nprint(r.__file__, *candor.__path__, sep='\\n')"
    )
    for environment in (client, jobs):
        told = environment.run("python", "-c", code, cwd=tmp_path)
        assert told.returncode == 0, told.stderr
        assert all(Path(line).is_relative_to(environment.site) for line in told.stdout.split())
    assert {path.name.partition("-")[0] for path in jobs.site.glob("candor*.dist-info")} == {
        name.replace("-", "_") for name in OURS
    }
