"""The Helm chart: `helm lint` and `helm template` with the values files that people write for CoreDNS's chart."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from svcdns.inspection.permissions import cluster_role, permissions, watches
from svcdns.inspection.problem import Severity
from svcdns.inspection.reading import Reading, read_given
from tests.support.deployment import HELM, needs_helm, only
from tools.release import package_chart

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "svcdns"
# A helm that `go install` has built does not know which version of Kubernetes to assume.
TEMPLATE = [HELM, "template", "dns", str(CHART), "--kube-version", "1.34.0"]
pytestmark = [pytest.mark.integration, needs_helm]

SERVER = "servers: [{zones: [{zone: .}], port: 53, plugins: [%s]}]\n"
VALUES = {
    "defaults": "",
    "cluster IP": "service: {clusterIP: 10.96.0.10, name: kube-dns}\n",
    "dual stack": "service: {clusterIPs: [10.96.0.10, 'fd00::a'], ipFamilyPolicy: PreferDualStack}\n",
    "not the cluster's DNS": "isClusterService: false\nserviceType: LoadBalancer\nservice: {loadBalancerIP: 192.0.2.1}\n",
    "replicas": "replicaCount: 5\nresources: {limits: {cpu: 100m, memory: 128Mi}}\n",
    "names": "fullnameOverride: coredns\ndeployment: {name: coredns, annotations: {a: b}}\n",
    "labels": "customLabels: {team: dns}\ncustomAnnotations: {a: b}\nk8sAppLabelOverride: coredns\npodAnnotations: {c: d}\n",
    "image": "image: {repository: registry.test/svcdns, tag: v1, pullSecrets: [key]}\n",
    "hpa": "hpa: {enabled: true, minReplicas: 2, maxReplicas: 9}\n",
    "autoscaler": "autoscaler: {enabled: true, min: 2, max: 10, nodesPerReplica: 8}\n",
    "disruption budget": "podDisruptionBudget: {maxUnavailable: 1}\n",
    "monitor": "prometheus: {service: {enabled: true}, monitor: {enabled: true, interval: 30s}}\n",
    "no RBAC": "rbac: {create: false}\nserviceAccount: {create: false, name: dns}\n",
    "zone files": (
        "zoneFiles:\n  - filename: a.db\n    domain: a.test\n"
        "    contents: |\n      a.test. IN SOA ns.a.test. root.a.test. 1 2 3 4 5\n"
    ),
    "volumes": (
        "extraVolumes: [{name: x, configMap: {name: x}}]\nextraVolumeMounts: [{name: x, mountPath: /x}]\n"
        "extraSecrets: [{name: tls, mountPath: /tls}]\nenv: [{name: A, value: b}]\n"
    ),
    "scheduling": (
        "nodeSelector: {a: b}\ntolerations: [{operator: Exists}]\npriorityClassName: high\n"
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]\n"
    ),
    "verified Pods": SERVER % "{name: kubernetes, parameters: cluster.local, configBlock: pods verified}",
    "visibility": SERVER % "{name: kubernetes, parameters: cluster.local}, {name: visibility, configBlock: own}",
    "traffic by Pod": SERVER % "{name: kubernetes, parameters: cluster.local}, {name: traffic, configBlock: pods}",
    "no endpoints": SERVER % "{name: kubernetes, parameters: cluster.local, configBlock: noendpoints}",
    "multicluster": SERVER
    % "{name: kubernetes, parameters: cluster.local clusterset.local, configBlock: multicluster clusterset.local}",
    "other pages": SERVER
    % "{name: health, parameters: ':8090'}, {name: prometheus, parameters: ':9000'}, {name: whoami}",
    "host port": (
        "servers: [{zones: [{zone: ., use_tcp: false}], port: 5300, servicePort: 53, hostPort: 5300, "
        "plugins: [{name: whoami}]}]\n"
    ),
    "several blocks": (
        "servers:\n- zones: [{zone: a.test}, {zone: b.test}]\n  port: 53\n  plugins: [{name: whoami}]\n"
        "- zones: [{zone: .}]\n  port: 53\n  plugins: [{name: forward, parameters: . 192.0.2.1}, {name: cache, parameters: 30}]\n"
    ),
    "import": "extraConfig: {import: {parameters: /opt/*.conf}}\n",
    "accelerator": "svcdns: {accelerator: {enabled: true}, state: {enabled: false}}\n",
    "accelerator beside other containers": (
        "initContainers: [{name: first, image: busybox}]\nsvcdns: {accelerator: {enabled: true}}\n"
    ),
    "configmap": "configmap: {name: corefile}\npreStopSleep: 5\nterminationGracePeriodSeconds: 60\n",
    "whole file of a cluster DNS": (
        "image: {repository: registry.test/dns/svcdns, tag: '1', pullPolicy: Always}\nreplicaCount: 3\n"
        "isClusterService: true\nk8sAppLabelOverride: kube-dns\nserviceType: ClusterIP\n"
        "service: {clusterIP: 172.20.0.10, name: kube-dns, annotations: {a: b}}\n"
        "serviceAccount: {create: true, name: coredns, annotations: {a: b}}\nclusterRole: {nameOverride: system:coredns}\n"
        "prometheus: {service: {enabled: true, annotations: {prometheus.io/scrape: 'true'}}, "
        "monitor: {enabled: true, additionalLabels: {release: prometheus}, namespace: monitoring, interval: 15s}}\n"
        "podDisruptionBudget: {minAvailable: 2}\npodAnnotations: {a: b}\nrollingUpdate: {maxUnavailable: 0, maxSurge: 1}\n"
        "livenessProbe: {enabled: true, failureThreshold: 3}\nreadinessProbe: {enabled: true, failureThreshold: 3}\n"
        "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, "
        "labelSelector: {matchLabels: {k8s-app: kube-dns}}}]}}\n"
        "tolerations: [{key: CriticalAddonsOnly, operator: Exists}]\npriorityClassName: system-cluster-critical\n"
    ),
    "encrypted": (
        "servers:\n- zones: [{zone: ., scheme: 'tls://'}]\n  port: 853\n"
        "  plugins: [{name: tls, parameters: /tls/tls.crt /tls/tls.key}, {name: whoami}]\n"
        "- zones: [{zone: ., scheme: 'dns://', use_tcp: true}]\n  port: 53\n  nodePort: 30053\n"
        "  plugins: [{name: whoami}, {name: reload}]\nserviceType: NodePort\n"
    ),
    "network policy": "svcdns: {networkPolicy: {enabled: true}, state: {enabled: false}, unprivilegedPorts: false}\n",
}


def rendered(values: str, tmp_path: Path) -> list[dict[str, Any]]:
    """Returns the objects that the chart makes with these values."""
    path = tmp_path / "values.yaml"
    path.write_text(values)
    done = subprocess.run(
        [*TEMPLATE, "--namespace", "kube-system", "--values", str(path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def corefile(objects: list[dict[str, Any]]) -> Reading:
    maps = [one for one in objects if one["kind"] == "ConfigMap" and "Corefile" in one["data"]]
    return read_given(maps[0]["data"]["Corefile"], "Corefile", environ={})


@pytest.mark.parametrize("name", sorted(VALUES))
def test_the_objects_of_each_values_file_fit_together(name: str, tmp_path: Path) -> None:
    objects = rendered(VALUES[name], tmp_path)
    deployment = next(
        one for one in objects if one["kind"] == "Deployment" and "autoscaler" not in one["metadata"]["name"]
    )
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (container, *_) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {(one["containerPort"], one["protocol"]) for one in container["ports"]}
    service = next(
        one for one in objects if one["kind"] == "Service" and not one["metadata"]["name"].endswith("-metrics")
    )
    assert service["spec"]["selector"].items() <= labels.items()
    assert {(one["targetPort"], one["protocol"]) for one in service["spec"]["ports"]} <= ports
    reading = corefile(objects)
    assert [one for one in reading.problems if one.severity is Severity.ERROR] == []
    assert {key.port for plan in reading.plans for key in plan.keys} <= {port for port, _ in ports}
    volumes = {one["name"] for one in deployment["spec"]["template"]["spec"]["volumes"]}
    assert {one["name"] for one in container["volumeMounts"]} <= volumes


@pytest.mark.parametrize(
    "name", ["defaults", "verified Pods", "visibility", "traffic by Pod", "no endpoints", "multicluster"]
)
def test_the_role_is_what_the_corefile_needs(name: str, tmp_path: Path) -> None:
    objects = rendered(VALUES[name], tmp_path)
    wanted = yaml.safe_load(cluster_role(permissions(watches(corefile(objects)))))["rules"]
    assert only(objects, "ClusterRole")["rules"] == wanted


def test_the_default_corefile_is_that_of_coredns_chart(tmp_path: Path) -> None:
    text = only(rendered("", tmp_path), "ConfigMap")["data"]["Corefile"]
    assert text.splitlines()[:6] == [
        ".:53 {", "    errors", "    health {", "        lameduck 10s", "    }", "    ready"
    ]  # fmt: skip


def test_pages_follow_the_corefile(tmp_path: Path) -> None:
    (container,) = only(rendered(VALUES["other pages"], tmp_path), "Deployment")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["livenessProbe"]["httpGet"]["port"] == 8090
    assert "readinessProbe" not in container
    assert 9000 in {one["containerPort"] for one in container["ports"]}


def test_a_configmap_with_another_name(tmp_path: Path) -> None:
    objects = rendered(VALUES["configmap"], tmp_path)
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["volumes"][0]["configMap"]["name"] == only(objects, "ConfigMap")["metadata"]["name"] == "corefile"
    assert pod["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}


def test_the_ports_have_the_order_of_coredns_chart(tmp_path: Path) -> None:
    """Helm's merge loses a port if the order changes: tests/integration/test_applying.py."""
    for values, names in (
        ("", ["udp-53", "tcp-53"]),
        ("svcdns: {kubeadmPorts: true}\n", ["dns", "dns-tcp", "metrics"]),
        (VALUES["encrypted"], ["udp-53", "tcp-53", "tcp-853"]),
    ):
        objects = rendered(values, tmp_path)
        assert [port["name"] for port in only(objects, "Service")["spec"]["ports"]] == names


def test_two_autoscalers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text("hpa: {enabled: true}\nautoscaler: {enabled: true}\n")
    done = subprocess.run(
        [*TEMPLATE, "--values", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode
    assert "exclude each other" in done.stderr


def test_the_accelerator_is_a_sidecar(tmp_path: Path) -> None:
    """The chart and the kustomize component give it the same rights. The DNS container keeps its own."""
    plain, accelerated = (
        only(rendered(VALUES[name], tmp_path), "Deployment")["spec"]["template"]["spec"]
        for name in ("defaults", "accelerator beside other containers")
    )
    first, sidecar = accelerated["initContainers"]
    component = yaml.safe_load((CHART.parents[1] / "kustomize/components/accelerator/sidecar.yaml").read_text())
    (wanted,) = component["spec"]["template"]["spec"]["initContainers"]
    assert first["name"] == "first"
    (container,) = accelerated["containers"]
    assert sidecar == wanted | {"image": container["image"]}
    socket = {"name": "SVCDNS_ACCELERATOR", "value": "@svcdns-accelerator"}
    assert container == plain["containers"][0] | {"env": [socket, *plain["containers"][0]["env"]]}
    assert accelerated["securityContext"] == plain["securityContext"]


@pytest.mark.parametrize("level", ["securityContext", "podSecurityContext"])
def test_the_sidecar_permits_the_user_of_the_dns_container(tmp_path: Path, level: str) -> None:
    values = f"svcdns: {{accelerator: {{enabled: true}}}}\n{level}: {{runAsUser: 1000660000}}\n"
    pod = only(rendered(values, tmp_path), "Deployment")["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["command"] == ["svcdns", "accelerate", "--stay", "--uid", "1000660000"]


def test_the_sidecar_can_have_a_seccomp_profile_of_its_own(tmp_path: Path) -> None:
    profile = {"type": "Localhost", "localhostProfile": "bpf.json"}
    sidecar = {"enabled": True, "securityContext": {"seccompProfile": profile}}
    plain, changed = (
        only(rendered(values, tmp_path), "Deployment")["spec"]["template"]["spec"]
        for values in (VALUES["accelerator"], yaml.safe_dump({"svcdns": {"accelerator": sidecar}}))
    )
    wanted = plain["initContainers"][0]["securityContext"] | {"seccompProfile": profile}
    assert changed["initContainers"][0]["securityContext"] == wanted
    assert changed["securityContext"] == plain["securityContext"]


def test_an_accelerator_on_the_network_of_the_node_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text("hostNetwork: true\nsvcdns: {accelerator: {enabled: true}}\n")
    done = subprocess.run([*TEMPLATE, "--values", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode
    assert "svcdns.accelerator.enabled and hostNetwork exclude each other" in done.stderr


@pytest.mark.parametrize(
    "values", ["replicaCount: many\n", "svcdns: {accelerator: true}\n", "servers: {}\n", "serviceType: Sometimes\n"]
)
def test_wrong_values_are_refused_by_the_schema(values: str, tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(values)
    done = subprocess.run(
        [*TEMPLATE, "--values", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode
    assert "values don't meet the specifications of the schema" in done.stderr


def test_lint() -> None:
    done = subprocess.run(
        [HELM, "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout


def test_the_chart_of_a_release_has_the_files_that_helm_packages(tmp_path: Path) -> None:
    """tools/release.py writes the package itself, so that it has the same bytes on every build."""
    packed = tmp_path / "svcdns.tgz"
    package_chart(CHART, packed, 0)
    subprocess.run([HELM, "package", CHART, "--destination", tmp_path], check=True, capture_output=True)
    [packaged] = tmp_path.glob("svcdns-*.tgz")
    assert contents(packed) == contents(packaged)
    assert subprocess.run([HELM, "lint", packed], check=False, capture_output=True).returncode == 0


def contents(path: Path) -> dict[str, bytes]:
    """Returns the files of an archive. Helm writes Chart.yaml anew, so of this file the result has the values."""
    found = {}
    with tarfile.open(path) as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            assert file is not None
            text = file.read()
            found[entry.name] = (
                repr(sorted(yaml.safe_load(text).items())).encode() if "Chart.yaml" in entry.name else text
            )
    return found
