"""Makes the files of the container image, in the build stages of the Dockerfile. Needs only the standard library.

`image.py root FOLDER` puts Debian packages together to a root file system for Python.
`image.py packages FOLDER` prepares the folder of installed Python packages. docs/image.md has the reasons.
"""

from __future__ import annotations

import compileall
import importlib.util
import json
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote

PACKAGES: Final = (
    "base-files", "ca-certificates", "gcc-12-base", "libbz2-1.0", "libc6", "libexpat1", "libffi8", "libgcc-s1", "liblzma5",
    "libpython3.11-minimal", "libpython3.11-stdlib", "libssl3", "libstdc++6", "netbase", "openssl",
    "python3.11-minimal", "zlib1g",
)  # fmt: skip
"""The Debian packages of the root file system. The test of the image imports all that is in the image."""

NOT_EXTRACTED: Final = (
    "./usr/bin/*", "./usr/sbin/*", "./bin/*", "./sbin/*", "./etc/default/*", "./etc/motd", "./etc/update-motd.d*",
    "./usr/share/doc/*/[!c]*", "./usr/share/doc/*/changelog*", "./usr/share/man*", "./usr/share/info*",
    "./usr/share/lintian*", "./usr/share/locale*", "./usr/share/gdb*", "./usr/share/gcc*", "./usr/share/perl*",
    "./usr/share/binfmts*", "./usr/share/applications*", "./usr/share/pixmaps*", "./usr/share/base-files/*",
    "./usr/lib/*/gconv*", "./usr/lib/*/audit*", "./usr/lib/ssl/misc*", "./usr/lib/valgrind*",
)  # fmt: skip
"""Patterns of tar: programs, documentation except for licences, and conversions of character sets that only the
command iconv uses.
"""

UNUSED_LIBRARY: Final = (
    "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter", "turtle.py", "turtledemo", "venv",
    "lib-dynload/*test*", "lib-dynload/_crypt.*", "lib-dynload/_curses*", "lib-dynload/_dbm.*", "lib-dynload/_sqlite3.*",
    "lib-dynload/_uuid.*", "lib-dynload/nis.*", "lib-dynload/readline.*", "lib-dynload/xxlimited*",
    "crypt.py", "curses", "dbm", "sqlite3",
)  # fmt: skip
"""The parts of the standard library that the image leaves out, with extension modules whose libraries it has not."""

UNUSED_PACKAGES: Final = (
    "kubernetes/client/api/[!_]*", "kubernetes/client/models/[!_]*",
    "kubernetes/aio/client/api/[!_]*", "kubernetes/aio/client/models/[!_]*",
    "pygments/lexers/[!_]*", "pygments/styles/[!_]*", "**/test", "**/tests", "**/*_test.py", "**/__pycache__",
    "**/*.c", "**/*.h", "**/*.pxd", "**/*.pyi", "**/*.pyx",
)  # fmt: skip
"""Files of Python packages that never run: the API classes and models of the Kubernetes client, which load only when a
program names one, tests, and what type checkers and compilers read.
"""
PROGRAM: Final = "svcdns"
"""The package that keeps its sources, so that a traceback shows its lines."""

UNCHECKED: Final = py_compile.PycInvalidationMode.UNCHECKED_HASH
"""The interpreter does not compare such bytecode to its source."""
USERS: Final = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
GROUPS: Final = "root:x:0:\nnonroot:x:65532:\n"
SERVICES_OF_NAMES: Final = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n"


def make_root(root: Path) -> None:
    """Puts the root file system together in the folder `root`. Needs apt and the network."""
    for folder in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / folder).mkdir(parents=True, exist_ok=True)
        (root / folder).symlink_to(f"usr/{folder}")
    with tempfile.TemporaryDirectory() as work:
        # apt's own user may not be able to write to the folder
        command = ["apt-get", "--quiet=2", "--option=APT::Sandbox::User=root", "download", *PACKAGES]
        subprocess.run(command, cwd=work, check=True)
        for package in sorted(Path(work).glob("*.deb")):
            extract(package, root)
    for name, text in (("passwd", USERS), ("group", GROUPS), ("nsswitch.conf", SERVICES_OF_NAMES)):
        (root / "etc" / name).write_text(text)
    join_certificates(root)
    write_bill(root)
    (library,) = (root / "usr/lib").glob("python3.*")
    remove(library, UNUSED_LIBRARY)
    compile_all(library, strip=root)
    remove_sources(library)


def extract(package: Path, root: Path) -> None:
    """Extracts a package without running its scripts, and records it where scanners of images look it up."""
    archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE)
    excluded = [f"--exclude={pattern}" for pattern in NOT_EXTRACTED]
    command = ["tar", "--extract", "--keep-directory-symlink", "--wildcards", *excluded, "--directory", str(root)]
    subprocess.run(command, stdin=archive.stdout, check=True)
    if archive.wait():
        raise subprocess.CalledProcessError(archive.returncode, archive.args)
    status = root / "var/lib/dpkg/status.d"
    status.mkdir(parents=True, exist_ok=True)
    control = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
    (status / package.name.partition("_")[0]).write_text(control)


def write_bill(root: Path) -> None:
    """Writes the list of the Debian packages in the format CycloneDX, from the files that `extract` has written."""
    components = []
    for path in sorted((root / "var/lib/dpkg/status.d").iterdir()):
        field = dict(line.split(": ", 1) for line in path.read_text().splitlines() if re.match(r"[A-Z][\w-]*: ", line))
        name, version, architecture = field["Package"], field["Version"], field["Architecture"]
        identity = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={architecture}"
        components.append({"type": "library", "name": name, "version": version, "purl": identity})
    bill = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}
    (root / "var/lib/dpkg/sbom.cdx.json").write_text(f"{json.dumps(bill, indent=2)}\n")


def join_certificates(root: Path) -> None:
    """Writes the file of all CA certificates, as the package's script would do."""
    certificates = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(f"{certificate.read_text().strip()}\n" for certificate in certificates))
    shutil.rmtree(root / "usr/share/ca-certificates")


def prepare_packages(folder: Path) -> None:
    """Removes what never runs from a folder of Python packages, and compiles the modules."""
    remove(folder, UNUSED_PACKAGES)
    libraries = sorted(folder.rglob("*.so*"))
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)
    compile_all(folder)
    remove_sources(folder)


def remove(folder: Path, patterns: Iterable[str]) -> None:
    """Removes the files and folders below `folder` that match one of the patterns, except those of svcdns."""
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        if PROGRAM in path.relative_to(folder).parts:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def compile_all(folder: Path, strip: Path | None = None) -> None:
    """Compiles all modules below `folder`. `strip` is left out of the paths in tracebacks."""
    compileall.compile_dir(
        folder, quiet=2, invalidation_mode=UNCHECKED, stripdir=strip and str(strip), prependdir=strip and "/"
    )


def remove_sources(folder: Path) -> None:
    """Replaces each module below `folder` that has been compiled by its bytecode, except those of svcdns."""
    for compiled in sorted(folder.rglob("__pycache__/*.pyc")):
        if PROGRAM in compiled.relative_to(folder).parts:
            continue
        source = compiled.parents[1] / re.sub(r"\.[^.]+\.pyc$", ".py", compiled.name)
        compiled.rename(source.with_suffix(".pyc"))
        source.unlink()
        if not any(compiled.parent.iterdir()):
            compiled.parent.rmdir()


def compile_library(image: Path) -> None:
    """Writes the bytecode of this interpreter's standard library to `image`, at its path below the root.

    A base image may lack this bytecode, and a container cannot write it to a root file system that is read-only.
    """
    library = Path(sysconfig.get_path("stdlib"))
    unused = {path for pattern in (*UNUSED_LIBRARY, "site-packages", "dist-packages") for path in library.glob(pattern)}
    for source in sorted(library.rglob("*.py")):
        if unused.isdisjoint((source, *source.parents)):
            target = image / Path(importlib.util.cache_from_source(str(source))).relative_to("/")
            py_compile.compile(str(source), str(target), quiet=2, invalidation_mode=UNCHECKED)


def main(arguments: list[str]) -> None:
    """Runs a command of the Dockerfile."""
    command, folder = arguments
    {"root": make_root, "packages": prepare_packages, "library": compile_library}[command](Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
