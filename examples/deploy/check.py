"""Checks the files of this folder as far as that goes without a container engine or a cluster.

    python check.py [--metrics URL]

The packages are those of requirements.txt; promtool is used where it is installed. With the address
of a running server, queries are held against its /metrics too. Prints as Rust's test harness does;
the exit code is 1 if a check fails.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
import urllib.request
from pathlib import Path

import kubernetes_validate
import promql_parser
import yaml

HERE = Path(__file__).resolve().parent
CRATES = HERE.parent.parent / "crates"
COMPOSE = [
    ["compose.yaml"],
    ["compose.yaml", "compose.gpu.yaml"],
    ["compose.yaml", "compose.nvidia.yaml"],
    ["compose.yaml", "compose.scale-out.yaml"],
]
# What Prometheus has by itself.
BUILT_IN = {"up", "ALERTS"}


class Skip(Exception):
    """A check that cannot run here."""


def tool(name):
    """A program of this Python's environment or of the system."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        raise Skip(f"there is no {name}")
    return found


def run(*command, **options):
    """The output of a program that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, f"{Path(command[0]).name}: {said[:500]}"
    return done.stdout


def documents(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document]


def settings(path):
    """The settings in an environment file, those that are commented out too."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=(.*)", line) for line in lines]
    return {match[1]: match[2] for match in found if match}


def dockerfiles_have_no_finding(_):
    run(tool("hadolint"), *map(str, sorted(HERE.rglob("Dockerfile"))))


def compose_files_fit_together(_):
    environment = os.environ | {"GRAFANA_PASSWORD": "x", "RENDER_GID": "105"}
    for files in COMPOSE:
        options = [part for name in files for part in ("--file", name)]
        text = run(
            tool("docker-compose"), *options, "config", "--format", "json", cwd=HERE, env=environment
        )
        for name, service in json.loads(text)["services"].items():
            for volume in service.get("volumes", []):
                bound = volume["type"] == "bind"
                assert not bound or Path(volume["source"]).exists(), f"{name}: {volume}"
            drain = service.get("environment", {}).get("FIRESIDE_DRAIN_TIMEOUT")
            if drain:
                grace = seconds(service["stop_grace_period"])
                assert grace > float(drain), f"{name}: ends after {grace} s, drains for {drain} s"
    return f"{len(COMPOSE)} combinations"


def seconds(duration):
    """The seconds of a duration such as 1m15s."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(count) * units[unit] for count, unit in re.findall(r"(\d+)([hms])", duration))


def manifests():
    for path in sorted(HERE.glob("kubernetes/*/*.yaml")):
        for document in documents(path):
            yield path.relative_to(HERE), document


def manifests_are_valid(_):
    version = kubernetes_validate.latest_version()
    count = 0
    for path, document in manifests():
        if document["kind"] == "Kustomization":
            for name in document["resources"]:
                assert (HERE / path.parent / name).exists(), f"{path}: there is no {name}"
        elif "." not in document["apiVersion"].split("/")[0]:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                raise AssertionError(f"{path}: {error.message}") from error
            count += 1
    with tempfile.TemporaryDirectory() as empty:
        kubectl = shutil.which("kubectl")
        for folder in ["server", "autoscale"] if kubectl else []:
            home = os.environ | {"HOME": empty}
            run(kubectl, "kustomize", str(HERE / "kubernetes" / folder), env=home)
    return f"{count} resources of Kubernetes {version}"


def pods_start_serve_and_drain(_):
    found = {document["kind"]: document for _, document in manifests()}
    spec = found["Deployment"]["spec"]
    pod = spec["template"]["spec"]
    server = pod["containers"][0]
    labels = spec["template"]["metadata"]["labels"]
    for kind, selector in [
        ("Deployment", spec["selector"]["matchLabels"]),
        ("Service", found["Service"]["spec"]["selector"]),
        ("PodDisruptionBudget", found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]),
        ("PodMonitor", found["PodMonitor"]["spec"]["selector"]["matchLabels"]),
    ]:
        assert selector == labels, f"{kind} selects {selector}, pods have {labels}"
    target = found["ScaledObject"]["spec"]["scaleTargetRef"]["name"]
    assert target == found["Deployment"]["metadata"]["name"], target
    probes = {name: server[name]["httpGet"]["path"] for name in server if name.endswith("Probe")}
    assert probes == {
        "startupProbe": "/health",
        "livenessProbe": "/health",
        "readinessProbe": "/health/ready",
    }, probes
    stop = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(found["ConfigMap"]["data"]["FIRESIDE_DRAIN_TIMEOUT"])
    grace = pod["terminationGracePeriodSeconds"]
    assert grace > stop + drain, f"{grace} s are not more than {stop} and {drain}"


def settings_are_the_commands(_):
    """Every setting is one that the command reads, and the environment file has its defaults."""
    source = (CRATES / "fireside/src/cli/serve.rs").read_text(encoding="utf-8")
    every = "\n".join(path.read_text(encoding="utf-8") for path in CRATES.glob("*/src/**/*.rs"))
    known = set(re.findall(r'"(FIRESIDE_[A-Z_]+)"', every))
    # For compose, not for the command.
    known |= {"FIRESIDE_PUBLISH"}
    used = set()
    for path in sorted(HERE.rglob("*")):
        if path.is_file() and path.suffix not in {".py", ".json"}:
            text = path.read_text(encoding="utf-8")
            used |= set(re.findall(r"\bFIRESIDE_[A-Z_]+", text))
    assert used <= known, f"the command reads none of {sorted(used - known)}"
    for name, value in settings(HERE / "fireside.env").items():
        # The argument that reads it, up to the field it is for.
        found = re.search(rf'env = "{name}"(.*?)\n    \w+:', source, re.DOTALL)
        default = found and re.search(r'default_value(?:_t)? = "?([\w.]+)"?', found[1])
        if default and value.isdigit() and name != "FIRESIDE_DRAIN_TIMEOUT":
            assert default[1].replace("_", "") == value, f"{name} is {default[1]} by default"
    return f"{len(used)} settings"


def queries():
    """Every query in the tree, with its place."""
    dashboard = json.loads((HERE / "grafana/fireside.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']!r}", target["expr"].replace("$__rate_interval", "1m")
    for variable in dashboard["templating"]["list"]:
        selector = re.fullmatch(r"label_values\((.*), \w+\)", variable.get("definition", ""))
        if selector:
            yield f"variable {variable['name']!r}", selector[1]
    for group in documents(HERE / "prometheus/alerts.yml")[0]["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]
    for path, document in manifests():
        for trigger in document.get("spec", {}).get("triggers", []):
            yield str(path), trigger["metadata"]["query"]


def selected(query):
    """The names of the metrics that a query selects."""
    names = []

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            names.append(node.name)
        return True

    promql_parser.walk(promql_parser.parse(query), visit)
    return names


def queries_select_what_the_server_has(arguments):
    source = (CRATES / "fireside-server/src/metrics.rs").read_text(encoding="utf-8")
    known = set(re.findall(r'"((?:tgi_|vllm:|fireside_)[a-z0-9_:]+)"', source)) | BUILT_IN
    series = None
    if arguments.metrics:
        with urllib.request.urlopen(arguments.metrics) as response:
            lines = response.read().decode().splitlines()
        series = {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}
    used = set()
    for place, query in queries():
        names = selected(query)
        assert names, f"{place} selects nothing: {query}"
        for name in names:
            base = name if name in known else re.sub("_(bucket|sum|count)$", "", name)
            assert base in known, f"{place}: the server has no {name}"
            if series is not None and name not in BUILT_IN:
                assert name in series, f"{place}: {arguments.metrics} has no {name}"
            used.add(base)
    return f"{len(used)} metrics"


def alerts_fire_when_they_should(_):
    promtool = tool("promtool")
    folder = HERE / "prometheus"
    run(promtool, "check", "rules", "alerts.yml", cwd=folder)
    run(promtool, "test", "rules", "alerts.test.yml", cwd=folder)
    for config in ["prometheus.yml", "scale-out.yml"]:
        run(promtool, "check", "config", "--syntax-only", config, cwd=folder)


CHECKS = [
    dockerfiles_have_no_finding,
    compose_files_fit_together,
    manifests_are_valid,
    pods_start_serve_and_drain,
    settings_are_the_commands,
    queries_select_what_the_server_has,
    alerts_fire_when_they_should,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metrics", metavar="URL", help="the /metrics of a running server")
    arguments = parser.parse_args()
    passed = failed = skipped = 0
    for check in CHECKS:
        name = f"test deploy::{check.__name__} ..."
        try:
            note = check(arguments)
            passed += 1
            print(name, "ok" + (f"\n    {note}" if note else ""))
        except Skip as reason:
            skipped += 1
            print(name, f"ignored, {reason}")
        except Exception as error:  # each check is told for itself
            failed += 1
            line = traceback.extract_tb(error.__traceback__)[-1].line
            print(name, f"FAILED\n    {type(error).__name__}: {error} at {line}")
    verdict = "FAILED" if failed else "ok"
    print(f"test result: {verdict}. {passed} passed; {failed} failed; {skipped} ignored")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
