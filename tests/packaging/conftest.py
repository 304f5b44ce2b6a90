"""The two wheels and the environments that hold them, each made once a process."""

from __future__ import annotations

import pytest

from tests.packaging.environments import Environment, Wheels, build_wheels, make_environment

Folders = pytest.TempPathFactory


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: Folders) -> Wheels:
    return build_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def client(wheels: Wheels, tmp_path_factory: Folders) -> Environment:
    """`pip install candor-client`."""
    return make_environment(tmp_path_factory.mktemp("client") / "venv", [wheels.client])


@pytest.fixture(scope="session")
def jobs(wheels: Wheels, tmp_path_factory: Folders) -> Environment:
    """`pip install 'candor-rewards[jobs]'`."""
    return make_environment(tmp_path_factory.mktemp("jobs") / "venv", wheels.both, ["jobs"])


@pytest.fixture(scope="session")
def server(wheels: Wheels, tmp_path_factory: Folders) -> Environment:
    """`pip install 'candor-rewards[server,jobs]'`."""
    folder = tmp_path_factory.mktemp("server") / "venv"
    return make_environment(folder, wheels.both, ["server", "jobs"])
