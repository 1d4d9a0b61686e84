"""A Pod of the image, as deploy/ describes it: the DNS container and the sidecar of the component `accelerator`.

runc gets the rights that the CRI plugin of containerd derives from the manifests.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, Self

import yaml

from bench.virtual_network import Namespace
from tests.support.accelerated import ADDRESSES, make_network
from tests.support.api_double import ApiDouble
from tests.support.container import NAMESPACES, bound, run_container, seccomp, specification
from tests.support.image import ROOT, Image, ImageBundle
from tests.support.in_cluster import SERVICE_ACCOUNT, service_account
from tests.support.server import TIMEOUT, until

DEPLOY: Final = ROOT / "deploy" / "kustomize"
SETS: Final = ("bounding", "effective", "permitted")
SYSFS: Final = {
    "destination": "/sys",
    "source": "sysfs",
    "type": "sysfs",
    "options": ["nosuid", "noexec", "nodev", "ro"],
}
PORTS: Final = {"port": 53, "ready": 8181, "health": 8080, "metrics": 9153}


def pod_template() -> dict[str, Any]:
    """Returns the Pod template of the base."""
    template: dict[str, Any] = yaml.safe_load((DEPLOY / "base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    return template


def accelerator() -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the sidecar of the component `accelerator`, and the variable that it adds to the DNS container."""
    folder = DEPLOY / "components/accelerator"
    patched = yaml.safe_load((folder / "sidecar.yaml").read_text())["spec"]["template"]["spec"]
    patches = yaml.safe_load((folder / "kustomization.yaml").read_text())["patches"]
    variable = yaml.safe_load(patches[1]["patch"])[0]["value"]
    return patched["initContainers"][0], {variable["name"]: variable["value"]}


def in_pod(config: dict[str, Any], network: Namespace, container: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an OCI configuration with the rights of a container, in the network namespace of its Pod."""
    context = {**pod_template()["securityContext"], **container["securityContext"]}
    capabilities = [f"CAP_{name}" for name in context["capabilities"]["add"]]
    assert context["capabilities"]["drop"] == ["ALL"]
    config["process"] |= {
        "user": {"uid": context["runAsUser"], "gid": context["runAsGroup"], "additionalGids": [context["fsGroup"]]},
        "capabilities": dict.fromkeys(SETS, capabilities),
        "noNewPrivileges": not context["allowPrivilegeEscalation"],
    }
    config["root"]["readonly"] = context["readOnlyRootFilesystem"]
    config["mounts"].append(SYSFS)
    config["linux"]["namespaces"].append({"type": "network", "path": f"/run/netns/{network.name}"})
    return config


class SidecarContainer:
    """The sidecar in a container of runc."""

    def __init__(self, image: Image, folder: Path, network: Namespace, *, permits_bpf: bool) -> None:
        """Starts the container. Its seccomp profile permits bpf(2) or refuses it."""
        folder.mkdir(exist_ok=True)
        self._folder, self._log = folder, folder / "log"
        container, _ = accelerator()
        config = specification(
            image.root, [], list(container["command"]), list(image.config["Env"]), errno.EPERM, namespaces=NAMESPACES
        )
        config["linux"]["seccomp"] = seccomp(errno.EPERM, ["bpf"] if permits_bpf else [])
        self._process = run_container(folder, in_pod(config, network, container), self._log)

    @property
    def log(self) -> str:
        """Returns the text that the sidecar has printed."""
        return self._log.read_text()

    @property
    def memory_limit(self) -> int:
        """Returns the octets of memory that the manifest permits."""
        limit = accelerator()[0]["resources"]["limits"]["memory"]
        return int(limit.removesuffix("Mi")) << 20

    @property
    def memory(self) -> int:
        """Returns the octets of memory of PID 1, with its share of pages that other processes also use (PSS)."""
        found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{self.first}/smaps_rollup").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) << 10

    @property
    def first(self) -> int:
        """Returns the id, outside the container, of the container's PID 1."""
        return int((self._folder / "pid").read_text())

    def until_logged(self, text: str) -> None:
        until(f"{text!r} in the sidecar's log", lambda: text in self.log or self._process.poll() is not None)
        assert text in self.log

    def end(self) -> None:
        """Kills PID 1 of the container, and waits until runc has removed the container."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.first, signal.SIGKILL)
        self._process.wait(TIMEOUT)


class DnsContainer(ImageBundle):
    """The DNS container in a container of runc, in the network namespace `network`. Its clients are in `node`."""

    network: Namespace
    node: Namespace

    def configuration(self) -> dict[str, Any]:
        """Returns the OCI configuration with the arguments, variables and volumes of the manifest."""
        (container,) = pod_template()["containers"]
        state = self.folder / "volume"
        state.mkdir()
        os.chown(state, -1, pod_template()["securityContext"]["fsGroup"])
        state.chmod(0o2775)
        self.ports.update(PORTS)
        root, mounts = self.files()
        mounts += [
            bound(str(self.corefile), "/etc/coredns/Corefile"),
            {"destination": "/var/lib/svcdns", "source": str(state), "type": "bind", "options": ["bind", "rw"]},
        ]
        environ = [*self.environ, *(f"{one['name']}={one['value']}" for one in container["env"])]
        config = specification(root, mounts, [*self.command_line, *container["args"]], environ, self.refused)
        return in_pod(config, self.network, container)

    def addresses(self) -> list[str]:
        """Returns the sorted addresses of the Service `web`, as a client on the node gets them."""
        name, host = "web.default.svc.cluster.local.", ADDRESSES["IPv4"].pod
        return self.node.inside(lambda: self.records(name, host=host, timeout=1))

    def kernel_replies(self) -> float:
        """Returns the number of replies that the kernel has sent, by the metrics."""
        return self.network.inside(lambda: self.metric("svcdns_accelerator_replies_total"))


class ImagePod:
    """The network namespaces `pod` and `node`, an API server, and the two containers. A context manager."""

    def __init__(self, image: Image, folder: Path, api: ApiDouble) -> None:
        """Makes the namespaces, and starts the API server in the namespace of the Pod.

        `start_sidecar` and `start_server` start the containers.
        """
        self._image, self._folder, self.api = image, folder, api
        with ExitStack() as stack:
            self._network = stack.enter_context(make_network())
            self._pod, self._node = self._network["pod"], self._network["node"]
            with self._pod.entered():
                stack.enter_context(api)
            self._stack = stack.pop_all()

    def start_sidecar(self, *, permits_bpf: bool = True) -> SidecarContainer:
        """Starts the sidecar. Its seccomp profile permits bpf(2) or refuses it."""
        sidecar = SidecarContainer(self._image, self._folder / "sidecar", self._pod, permits_bpf=permits_bpf)
        self._stack.callback(sidecar.end)
        return sidecar

    def start_server(self, corefile: str, token: str) -> DnsContainer:
        """Starts the DNS container, with the variables of the component and the service account of the Pod."""
        folder = self._folder / "server"
        folder.mkdir()
        variables = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.api.port)}
        attributes = {
            "image": self._image,
            "mounted": {service_account(folder, token): SERVICE_ACCOUNT},
            "variables": {**accelerator()[1], **variables},
            "network": self._pod,
            "node": self._node,
        }
        made: DnsContainer = type("Configured", (DnsContainer,), attributes)(folder, corefile)
        return self._stack.enter_context(made)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
