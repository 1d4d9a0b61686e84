"""Files that a forge, a hook or a release reads. Tests parse the files, and check that the commands and files named in
them exist.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_use_actions_by_commit(path: Path) -> None:
    """A tag in another repository can be moved."""
    steps = [step for job in load(path)["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", name)] == []


def test_a_workflow_runs_what_ci_runs() -> None:
    runs = [step.get("run") for path in WORKFLOWS for job in load(path)["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in runs
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_have_fields_with_ids(path: Path) -> None:
    form = load(path)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert form["name"]
    assert form["description"]
    assert ids
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in fields)


def test_hooks_run_tools_of_the_lock_file() -> None:
    """No hook needs a tool that `make env` does not install."""
    packages = {"ruff": "ruff", "mypy": "mypy", "lint-imports": "import-linter"}
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE))
    (repository,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    tools = [hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    assert tools
    assert {packages[tool] for tool in tools} <= locked


def test_fragments_have_a_type_that_the_changelog_knows() -> None:
    config = PROJECT["tool"]["towncrier"]
    types = "|".join(kind["directory"] for kind in config["type"])
    fragments = [path for path in (ROOT / config["directory"]).iterdir() if path.name not in config["ignore"]]
    assert [path.name for path in fragments if not re.fullmatch(rf"[\w-]+\.({types})(\.\d+)?\.md", path.name)] == []
    assert all(path.read_text().strip() for path in fragments)


def test_the_changelog_has_the_place_of_the_next_release() -> None:
    """towncrier inserts the next release at a marker."""
    assert PROJECT["tool"]["towncrier"]["start_string"] in (ROOT / "CHANGELOG.md").read_text()
