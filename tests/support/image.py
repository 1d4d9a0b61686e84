"""Builds the container image as `make image` does, and runs it in containers of runc."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.support.container import USER, Bundle, bound

ROOT: Final = Path(__file__).parents[2]
DEBIAN: Final = os.environ.get("SVCDNS_TEST_DEBIAN", "")
BUILDS: Final = ("localhost/svcdns-test", "localhost/svcdns-test-again")
CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
PIP: Final = "[global]\ncert = /ca.crt\n"
ENVIRON: Final = {**os.environ, "BUILDAH_ISOLATION": "chroot"}


@dataclass(frozen=True, slots=True)
class Image:
    """An image whose files are mounted at `root`. `config` and `layers` are those of the OCI image."""

    root: Path
    config: Mapping[str, Any]
    layers: tuple[str, ...]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of the image, as the image's user, in a changed root."""
        environ = dict(line.split("=", 1) for line in self.config["Env"])
        arguments = ["chroot", f"--userspec={USER}:{USER}", str(self.root), *command]
        return subprocess.run(arguments, env=environ, check=False, capture_output=True, text=True, timeout=120)


def why_no_build() -> str:
    """Returns why this machine cannot build the image; empty if it can."""
    tools = ("buildah", "make") if DEBIAN else ("buildah", "make", "debootstrap")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        return "needs root, buildah, and debootstrap or SVCDNS_TEST_DEBIAN"
    return ""


def buildah(*arguments: str) -> str:
    """Runs buildah, and returns its output."""
    done = subprocess.run(["buildah", *arguments], check=True, env=ENVIRON, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def debian(folder: Path) -> str:
    """Returns the name of a Debian image without Python. Makes it as docs/image.md shows, unless it exists."""
    name = "localhost/svcdns-test-debian:minbase"
    if subprocess.run(["buildah", "inspect", "--type=image", name], check=False, capture_output=True).returncode:
        command = ["debootstrap", "--variant=minbase", "bookworm", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, str(folder), "/")
        buildah("commit", "--quiet", "--rm", container, name)
    return name


@contextmanager
def built(folder: Path) -> Iterator[list[Image]]:
    """Builds the image twice, both builds at the same time, and mounts the files of both images."""
    base = DEBIAN or debian(folder / "root")
    (folder / "pip.conf").write_text(PIP)
    options = f"--volume {CERTIFICATES}:/ca.crt:ro --volume {folder}/pip.conf:/etc/pip.conf:ro --quiet"
    commands = [["make", "image", f"IMAGE={name}", f"DEBIAN={base}", f"BUILD_OPTIONS={options}"] for name in BUILDS]
    builds = [subprocess.Popen(command, cwd=ROOT, env=ENVIRON, stdout=subprocess.DEVNULL) for command in commands]
    codes = [build.wait() for build in builds]
    assert codes == [0, 0]
    containers = [buildah("from", name) for name in BUILDS]
    try:
        yield [_mounted(container) for container in containers]
    finally:
        buildah("rm", *containers)
        buildah("rmi", *BUILDS)


def _mounted(container: str) -> Image:
    found = json.loads(buildah("inspect", container))["OCIv1"]
    return Image(Path(buildah("mount", container)), found["config"], tuple(found["rootfs"]["diff_ids"]))


class ImageBundle(Bundle):
    """A server in a container of the image `image`. `mounted` has more files: source and path in the container."""

    image: ClassVar[Image]
    mounted: ClassVar[Mapping[Path, str]] = {}
    variables: ClassVar[Mapping[str, str]] = {}

    @property
    def command_line(self) -> tuple[str, ...]:
        """Returns the entry point of the image."""
        return tuple(self.image.config["Entrypoint"])

    @property
    def environ(self) -> list[str]:
        """Returns the variables of the image and those of the container."""
        return [*self.image.config["Env"], *(f"{name}={value}" for name, value in self.variables.items())]

    def files(self) -> tuple[Path, list[dict[str, Any]]]:
        """Adds the Corefile, `mounted`, and the memory that every container runtime provides as /dev/shm."""
        more = [bound(str(source), path) for source, path in self.mounted.items()]
        options = ["nosuid", "noexec", "nodev", "mode=1777", "size=64m"]
        shared = {"destination": "/dev/shm", "source": "shm", "type": "tmpfs", "options": options}
        return self.image.root, [bound(str(self.corefile), "/etc/Corefile"), shared, *more]
