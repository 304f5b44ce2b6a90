"""The Kubernetes example against the image, the command line and the routes. No cluster."""

from __future__ import annotations

from typing import Any

import cyclopts
import pytest
import yaml

from candor.http.routes import route_table
from candor.settings import Settings
from demo.servers import KAPPA
from tests.stack.command_line import parse
from tests.stack.composed import ROOT, stack

MANIFEST = ROOT / "examples" / "kubernetes" / "candor.yaml"


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text()) if one}


@pytest.fixture(scope="module")
def pod(objects: dict[str, Any]) -> Any:
    return objects["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    (one,) = pod["containers"]
    return one


def test_it_runs_the_stacks_image_with_a_command_the_command_line_takes(
    app: cyclopts.App, container: Any
) -> None:
    assert container["image"] == stack("gpu")["services"]["reward"]["image"]
    serve = parse(app, container["args"])
    assert serve["kappas"] == {"sycophancy": KAPPA}
    assert serve["port"] == container["ports"][0]["containerPort"]
    with pytest.raises(cyclopts.CycloptsError):
        parse(app, [*container["args"], "--renamed=1"])


def test_probes_ask_routes_that_are_there_and_need_no_key(container: Any) -> None:
    asked = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert [one["path"] for one in asked] == ["/startupz", "/livez", "/readyz"]
    assert {("GET", one["path"]) for one in asked} <= set(route_table())
    assert {one["port"] for one in asked} == {container["ports"][0]["name"]}


def test_the_service_finds_the_pods_and_its_name_is_one_the_server_answers_to(
    app: cyclopts.App, objects: dict[str, Any], container: Any
) -> None:
    service, deployment = objects["Service"], objects["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    # A server with a key answers to every name, also to candor.NAMESPACE.svc.cluster.local.
    assert parse(app, container["args"])["api_key_file"] is not None


def test_every_path_on_the_command_line_is_under_a_mount_and_every_mount_has_its_volume(
    objects: dict[str, Any], pod: Any, container: Any
) -> None:
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in mounts.values()} == volumes.keys()
    for argument in container["args"]:
        _, _, value = argument.partition("=")
        if value.startswith("/"):
            (mount,) = [mounts[path] for path in mounts if value.startswith(f"{path}/")]
            assert mount["readOnly"]
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert claim == objects["PersistentVolumeClaim"]["metadata"]["name"]
    keys = volumes["keys"]["secret"]
    assert keys["secretName"] in MANIFEST.read_text().split("---")[0]  # how it is made
    assert keys["defaultMode"] == 0o440


def test_the_container_is_confined_and_the_drain_fits_the_grace_period(
    pod: Any, container: Any
) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert "USER 10001" in (ROOT / "docker" / "reward.Dockerfile").read_text()
    assert pod["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["terminationGracePeriodSeconds"] > Settings(model="m").drain_s
