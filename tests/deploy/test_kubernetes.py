"""The Kubernetes example says what the product understands, and everything it names is there."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from sqlalchemy import make_url

from autosparse.cli.flags import given_fields
from autosparse.pipeline.config import read_configs
from tests.api.live_service import LiveService, listening
from tests.deploy.started import (
    DEPLOY,
    OURS,
    ROOT,
    checks_health,
    is_pinned,
    parsed,
    served,
    unknown_variables,
)

PLACE = DEPLOY / "kubernetes"
GUIDE = ROOT / "docs" / "deployment.md"
Thing = dict[str, Any]
SERVERS = ("autosparse-api", "autosparse-runner")
ON_RAY = "autosparse-ray-runner"
# what KubeRay makes with a cluster that asks for a token
MADE_BY_KUBERAY = {"autosparse": {"auth_token": "drawn"}}


@cache
def things() -> tuple[Thing, ...]:
    return tuple(
        thing
        for path in sorted(PLACE.rglob("*.yaml"))
        for thing in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    )


def named(kind: str, name: str) -> Thing:
    (found,) = (t for t in things() if (t["kind"], t["metadata"]["name"]) == (kind, name))
    return found


def templates(thing: Thing) -> Iterator[Thing]:
    """Every pod template below something."""
    for key, value in thing.items():
        if key == "template":
            yield value
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield from templates(one)


def pods() -> list[tuple[Thing, Thing]]:
    """Whatever makes pods, and a pod's specification."""
    return [(thing, template["spec"]) for thing in things() for template in templates(thing)]


def containers(pod: Thing) -> list[Thing]:
    return [*pod.get("initContainers", []), *pod["containers"]]


@cache
def secrets() -> dict[str, dict[str, str]]:
    """What the guide has one make by hand: name -> key -> a value."""
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, dict[str, str]] = dict(MADE_BY_KUBERAY)
    for line in re.findall(r"^kubectl create secret generic .*$", text, re.MULTILINE):
        name, *given = shlex.split(line.partition(" generic ")[2])
        keys = (one.removeprefix("--from-literal=") for one in given if "=" in one)
        found[name] = {key.partition("=")[0]: "drawn" for key in keys}
    return found


def environment(container: Thing) -> dict[str, str]:
    """What a container's process sees; whatever a variable is taken from must be there."""
    seen: dict[str, str] = {}
    for source in container.get("envFrom", []):
        seen |= named("ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", []):
        seen[variable["name"]] = _value(variable, seen)
    return seen


def _value(variable: Thing, seen: dict[str, str]) -> str:
    if "value" in variable:
        return re.sub(r"\$\((\w+)\)", lambda found: seen[found[1]], variable["value"])
    source = variable["valueFrom"]
    if "fieldRef" in source:
        return str(source["fieldRef"]["fieldPath"])
    asked = source["secretKeyRef"]
    return secrets()[asked["name"]][asked["key"]]


def server(name: str) -> Thing:
    (container,) = named("Deployment", name)["spec"]["template"]["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_starts_as_it_is_asked(name: str) -> None:
    container = server(name)
    seen = environment(container)
    settings = served(container["args"], seen)
    assert settings.keys
    assert settings.is_loopback == (name == "autosparse-runner")
    assert ("--no-runner" in container["args"]) == (name == "autosparse-api")
    assert make_url(settings.database).password == "drawn"
    assert unknown_variables(seen, "POSTGRES_PASSWORD") == set()
    places = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert any(settings.home.is_relative_to(place) for place in places)
    assert "/tmp" in places, "the rest cannot be written to"


def test_the_pods_share_no_disk() -> None:
    """Each home is a pod's own, and a client keeps to its pod while it uploads in pieces."""
    for name in (*SERVERS, ON_RAY):
        assert served(["autosparse", "serve"], environment(server(name))).own_home
        pod = named("Deployment", name)["spec"]["template"]["spec"]
        homes = [volume for volume in pod["volumes"] if volume["name"] == "home"]
        assert [list(home) for home in homes] == [["name", "emptyDir"]]
    assert named("Service", SERVERS[0])["spec"]["sessionAffinity"] == "ClientIP"


def joins() -> tuple[list[str], list[str]]:
    """How the runner on Ray joins the cluster, and what it starts then."""
    shell, flag, line = server(ON_RAY)["command"]
    assert (shell, flag) == ("sh", "-c")
    join, start = line.split("&&")
    return shlex.split(join), shlex.split(start.replace("exec ", ""))


def test_the_runner_on_ray_joins_the_cluster_that_is_there() -> None:
    """As the device that measures, without workers of its own, and with the cluster's token."""
    cluster = named("RayCluster", "autosparse")
    head = f"{cluster['metadata']['name']}-head-svc:6379"
    join, start = joins()
    assert join[:2] == ["ray", "start"]
    asked = dict(zip(join[2::2], join[3::2], strict=True))
    assert asked["--address"] == head
    assert asked["--num-cpus"] == "0"
    assert json.loads(asked["--resources"]) == {"measure": 1}
    variables = {one["name"]: one for one in server(ON_RAY)["env"]}
    assert variables["RAY_AUTH_MODE"]["value"] == cluster["spec"]["authOptions"]["mode"]
    secret = variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert {secret["name"]: {secret["key"]: "drawn"}} == MADE_BY_KUBERAY
    assert secret["name"] == cluster["metadata"]["name"]
    settings = served(start, environment(server(ON_RAY)))
    assert settings.workers > 0
    assert settings.ray_address == head
    assert settings.is_loopback


def test_the_guide_frees_the_cluster_of_its_other_device() -> None:
    """Two devices would be taken for one another."""
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    (patch,) = re.findall(r"--patch +'(\[.*?\])'", text, re.DOTALL)
    for one in json.loads(patch):
        *_, groups, number, field = one["path"].split("/")
        group = named("RayCluster", "autosparse")["spec"][groups][int(number)]
        assert group["groupName"] == "measure"
        assert group[field] == 1
        assert one["value"] == 0


def test_the_runner_holds_the_lane_of_its_node() -> None:
    settings = served(server(SERVERS[1])["args"], environment(server(SERVERS[1])))
    assert settings.device == "spec.nodeName"


def test_what_a_server_speaks_to_is_there() -> None:
    seen = environment(server(SERVERS[0]))
    settings = served(server(SERVERS[0])["args"], seen)
    database, objects = make_url(settings.database), urlsplit(seen["AWS_ENDPOINT_URL"])
    (stored,) = named("StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"]
    assert (database.username, database.database) == (
        environment(stored)["POSTGRES_USER"], environment(stored)["POSTGRES_DB"],
    )  # fmt: skip
    (store,) = named("StatefulSet", "objects")["spec"]["template"]["spec"]["containers"]
    assert urlsplit(settings.artifacts).hostname == environment(store)["S3_BUCKET"]
    for host, port in ((database.host, 5432), (objects.hostname, objects.port)):
        offered = named("Service", str(host))["spec"]["ports"]
        assert port in [one["port"] for one in offered]


def test_services_lead_to_ports_of_pods() -> None:
    labelled = [
        (template["metadata"]["labels"], template["spec"])
        for thing in things()
        for template in templates(thing)
        if "metadata" in template
    ]
    for thing in things():
        if thing["kind"] != "Service":
            continue
        chosen = thing["spec"]["selector"].items()
        (pod,) = (spec for labels, spec in labelled if chosen <= labels.items())
        open_ = {port["name"] for one in pod["containers"] for port in one.get("ports", [])}
        assert {port["targetPort"] for port in thing["spec"]["ports"]} <= open_


def test_a_deployment_finds_its_own_pods() -> None:
    for thing in things():
        if thing["kind"] in ("Deployment", "StatefulSet"):
            asked = thing["spec"]["selector"]["matchLabels"]
            assert asked == thing["spec"]["template"]["metadata"]["labels"]


def test_volumes_lead_somewhere() -> None:
    for thing, pod in pods():
        own = {one["metadata"]["name"] for one in thing["spec"].get("volumeClaimTemplates", [])}
        for volume in pod.get("volumes", []):
            own.add(volume["name"])
            if "persistentVolumeClaim" in volume:
                named("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
        mounted = {m["name"] for one in containers(pod) for m in one.get("volumeMounts", [])}
        assert mounted == own, thing["metadata"]["name"]


def test_everybody_is_somebody_without_rights() -> None:
    for thing, pod in pods():
        context = pod["securityContext"]
        assert context["runAsNonRoot"], thing["metadata"]["name"]
        assert context["runAsUser"] > 0
        assert pod["enableServiceLinks"] is False, "a Service's variables are none of ours"
        for container in containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            if container["image"] in OURS:
                user = f"{context['runAsUser']}:{context['runAsGroup']}"
                assert f"USER {user}" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def test_images_are_certain_releases() -> None:
    for _, pod in pods():
        for container in containers(pod):
            assert container["image"] in OURS or is_pinned(container["image"])


def test_no_password_is_written_down() -> None:
    assert not [thing for thing in things() if thing["kind"] == "Secret"]
    for _, pod in pods():
        for container in containers(pod):
            for variable in container.get("env", []):
                if re.search("PASSWORD|SECRET|KEY", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"]


def test_the_probes_see_whether_a_server_answers(live: LiveService) -> None:
    api, runner = server(SERVERS[0]), server(SERVERS[1])
    settings = served(api["args"], environment(api))
    (port,) = api["ports"]
    assert port["containerPort"] == settings.port
    for probe in (api["startupProbe"], api["readinessProbe"]):
        assert probe["httpGet"]["port"] == port["name"]
        assert live.http.get(probe["httpGet"]["path"]).status_code == 200
    with listening(live.service) as address:
        listens = urlsplit(address).port
        assert listens is not None
        for probe in (runner["livenessProbe"], runner["readinessProbe"]):
            *program, code = probe["exec"]["command"]
            assert program == ["python", "-c"]
            checks_health(code, listens)
    assert served(runner["args"], environment(runner)).port == 8377


def test_the_runner_waits_for_the_api() -> None:
    (waits,) = named("Deployment", SERVERS[1])["spec"]["template"]["spec"]["initContainers"]
    code = waits["command"][-1]
    compile(code, "wait", "exec")
    (url,) = re.findall(r'"(http://[^"]+)"', code)
    (port,) = named("Service", str(urlsplit(url).hostname))["spec"]["ports"]
    assert (urlsplit(url).port, urlsplit(url).path) == (port["port"], "/healthz")


@pytest.mark.parametrize("policy", [SERVERS[1], ON_RAY])
def test_the_runner_reaches_what_it_speaks_to(policy: str) -> None:
    rules = named("NetworkPolicy", policy)["spec"]["egress"]
    allowed = {
        (json.dumps(peer["podSelector"]["matchLabels"], sort_keys=True), port["port"])
        for rule in rules
        for peer in rule.get("to", [])
        for port in rule.get("ports", [])
    }
    chosen_pods = named("NetworkPolicy", policy)["spec"]["podSelector"]["matchLabels"]
    template = named("Deployment", policy)["spec"]["template"]
    assert template["metadata"]["labels"] == chosen_pods
    # the other runner waits for the API
    for name in ("autosparse-api", "postgres", "objects")[policy == ON_RAY :]:
        offered = named("Service", name)["spec"]
        chosen = json.dumps(offered["selector"], sort_keys=True)
        ports = {8377} if name == "autosparse-api" else {one["port"] for one in offered["ports"]}
        assert {(chosen, port) for port in ports} <= allowed


def test_the_runner_has_whole_cores_of_its_own() -> None:
    """Whole ones, asked for and bounded alike, or the kubelet shares them with others."""
    pod = named("Deployment", SERVERS[1])["spec"]["template"]["spec"]
    for container in containers(pod):
        asked = container["resources"]
        assert asked["requests"] == asked["limits"]
        assert asked["requests"]["cpu"].isdigit()


def test_the_cluster_is_of_the_tested_ray() -> None:
    cluster = named("RayCluster", "autosparse")["spec"]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"\nray=={cluster['rayVersion']}\n" in pins
    assert cluster["authOptions"] == {"mode": "token"}


def test_ray_has_one_device_without_workers() -> None:
    cluster = named("RayCluster", "autosparse")["spec"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    asked = groups["measure"]["rayStartParams"]
    assert json.loads(json.loads(asked["resources"])) == {"measure": 1}
    assert asked["num-cpus"] == "0"
    assert "resources" not in groups["compress"]["rayStartParams"]
    assert "num-cpus" not in groups["compress"]["rayStartParams"]
    selected = [cluster["headGroupSpec"], groups["measure"]]
    assert {json.dumps(one["template"]["spec"]["nodeSelector"]) for one in selected} == {
        '{"autosparse/measures": "true"}'
    }


@pytest.mark.slow
def test_ray_knows_its_flags() -> None:
    start = pytest.importorskip("ray.scripts.scripts", reason="Ray is not installed").start
    known = {option.lstrip("-") for one in start.params for option in one.opts}
    cluster = named("RayCluster", "autosparse")["spec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["rayStartParams"].keys() <= known


def test_the_guides_commands_are_understood() -> None:
    """What is run inside of a container, behind `--`."""
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    inside = re.findall(r"(?:-- sh -c '|-- )(autosparse [^'\n]*)", text)
    assert {line.split()[1] for line in inside} >= {"optimize"}
    for line in inside:
        arguments = parsed(shlex.split(line.replace('"$(hostname -i):6379"', "10.0.0.1:6379")))
        if line.startswith("autosparse optimize"):
            (config,) = read_configs(given_fields(arguments))
            assert config.ray_address == "10.0.0.1:6379"
            assert config.workers > 0
