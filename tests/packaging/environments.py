"""Virtual environments that hold Candor's two wheels, and of the packages installed here those that
an extra asks for and no others. Nothing is downloaded: those packages are links.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.paths import ROOT

SOURCES = ("client", "forward", "jobs", "probes", "service")
BUILD_FILES = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE")
OURS = {"candor-client", "candor-rewards"}


@dataclass(frozen=True)
class Wheels:
    """The files of the two distributions."""

    client: Path
    rewards: Path

    @property
    def both(self) -> tuple[Path, Path]:
        return self.client, self.rewards


@dataclass(frozen=True)
class Environment:
    """A virtual environment, by its folder."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        return site_of(self.folder)

    def run(self, *command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a command whose program is one of the environment's."""
        program, *arguments = command
        return subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=cwd,
            env=clean_environ() | variables,
            capture_output=True,
            text=True,
            timeout=120,
        )


def clean_environ() -> dict[str, str]:
    """The variables of this process without those that change what Python imports."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "CANDOR_", "COV_", "PYTEST_"))
    }


def build_wheels(folder: Path, *, compiler: str | None = None) -> Wheels:
    """Builds both wheels from a copy of their sources.

    Args:
        compiler: what compiles the attention kernel; without one the wheel has no kernel.
    """
    copy = folder / "sources"
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.partial")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in BUILD_FILES:
        shutil.copy(ROOT / name, copy / name)
    for root in (copy / "client", copy):
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
            cwd=root,
            env=clean_environ() | {"CXX": compiler or "no-compiler"},
            check=True,
            capture_output=True,
        )
    (client,) = folder.glob("candor_client-*.whl")
    (rewards,) = folder.glob("candor_rewards-*.whl")
    return Wheels(client, rewards)


def contents(wheel: Path) -> set[str]:
    """The files that a wheel installs, without the description of itself."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def requirements(wheel: Path) -> list[str]:
    """What the wheel says it needs, conditions on extras included."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    return metadata.get_all("Requires-Dist", [])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(wheels: Iterable[Path], extras: Sequence[str]) -> dict[str, Distribution]:
    """Every package that the wheels need with these extras, by name, as it is installed here.

    Raises:
        PackageNotFoundError: it is not installed here.
    """
    ours = {normal(wheel.name.partition("-")[0]): requirements(wheel) for wheel in wheels}
    found: dict[str, Distribution] = {}
    todo = [(name, frozenset(extras)) for name in ours]
    seen = set(todo)
    while todo:
        name, asked = todo.pop()
        if name in ours:
            lines = ours[name]
        else:
            found[name] = distribution(name)
            lines = found[name].requires or []
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": one}) for one in ("", *asked)):
                needed = (normal(requirement.name), frozenset(requirement.extras))
                if needed not in seen:
                    seen.add(needed)
                    todo.append(needed)
    return found


def site_of(folder: Path) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return folder / "lib" / version / "site-packages"


def link(package: Distribution, site: Path) -> None:
    """Makes an installed package importable from `site` too."""
    tops = {path.parts[0] for path in package.files or ()}
    for top in tops - {"..", "__pycache__"}:
        if not top.endswith(".pth") and not (site / top).exists():
            (site / top).symlink_to(Path(str(package.locate_file(top))).resolve())


def make_environment(
    folder: Path, wheels: Sequence[Path], extras: Sequence[str] = ()
) -> Environment:
    """Installs wheels into a new environment, beside what they need with these extras.

    Raises:
        PackageNotFoundError: one of the packages needed is not installed here.
    """
    packages = closure(wheels, extras)
    venv.create(folder, symlinks=True, with_pip=False)
    for package in packages.values():
        link(package, site_of(folder))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--no-compile", *wheels],
        env=clean_environ(),
        check=True,
        capture_output=True,
    )
    return Environment(folder)
