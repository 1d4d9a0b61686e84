"""The files of deploy/, rendered by kustomize and Helm."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "kustomize"
OVERLAYS: Final = sorted(path.name for path in (FOLDER / "overlays").iterdir())
KUSTOMIZE: Final = os.environ.get("SVCDNS_TEST_KUSTOMIZE") or shutil.which("kustomize") or ""
HELM: Final = os.environ.get("SVCDNS_TEST_HELM") or shutil.which("helm") or ""
needs_kustomize: Final = pytest.mark.skipif(not KUSTOMIZE, reason="kustomize is not installed (SVCDNS_TEST_KUSTOMIZE)")
needs_helm: Final = pytest.mark.skipif(not HELM, reason="helm is not installed (SVCDNS_TEST_HELM)")


def built(overlay: str) -> list[dict[str, Any]]:
    """Returns the objects of an overlay."""
    return built_in(FOLDER / "overlays" / overlay)


def with_components(overlay: str, components: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Returns the objects of an overlay with components, as an operator's own overlay combines them in `folder`."""
    shutil.copytree(FOLDER, folder / "kustomize")
    own = folder / "kustomize" / "overlays" / "own"
    own.mkdir()
    listed = ", ".join(f"../../components/{name}" for name in components)
    (own / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"resources: [../{overlay}]\ncomponents: [{listed}]\n"
    )
    return built_in(own)


def built_in(path: Path) -> list[dict[str, Any]]:
    """Returns the objects that `kustomize build` prints for a folder."""
    done = subprocess.run([KUSTOMIZE, "build", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def only(objects: list[dict[str, Any]], kind: str, name: str = "") -> dict[str, Any]:
    """Returns the object of a kind, of which there must be one. `name` is the end of its name."""
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"].endswith(name)]
    return found
