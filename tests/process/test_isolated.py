"""Child interpreters import no module from the working directory, from `PYTHON*` variables, or from the user's site
directory.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

import svcdns
from svcdns import __version__
from svcdns.process import isolated
from tests.support.installed import install
from tests.support.planted import INSTALLED, STANDARD, Planted
from tests.support.server import free_port

BEFORE_US = {"__future__", "contextlib", "pathlib", "re", "types", "typing"}
"""What the path files of an editable installation import, before any code of ours runs."""


def run(command: list[str], cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a folder, and waits for its end."""
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=30
    )


@pytest.mark.parametrize(
    ("program", "arguments", "output"),
    [
        pytest.param("coredns", ("-version",), f"svcdns-{__version__}", id="command"),
        pytest.param("svcdns.cli.preflight", (), __version__, id="preflight check"),
        pytest.param("svcdns.supervisor", ("--help",), "--adopt", id="supervisor"),
        pytest.param("svcdns.control", ("--help",), "--again", id="control"),
        pytest.param("svcdns.worker", ("--help",), "--slot", id="worker"),
        pytest.param("svcdns.sources.api.kubeconfig", ("/nowhere", ""), '"error"', id="reader of kubeconfigs"),
    ],
)
def test_no_module_from_outside_is_imported(
    tmp_path: Path, program: str, arguments: tuple[str, ...], output: str
) -> None:
    planted = Planted(tmp_path, STANDARD + INSTALLED)
    outside = {name: str(tmp_path) for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONPLATLIBDIR")}
    done = run(
        isolated.command(program, *arguments),
        tmp_path,
        PYTHONSTARTUP=str(tmp_path / "queue.py"),
        PYTHONINSPECT="1",
        **outside,
    )
    assert output in done.stdout, done.stderr
    assert planted.imported == ""


@pytest.mark.parametrize("module", ["svcdns", "svcdns.cli.handover", "svcdns.supervisor", "svcdns.serving"])
def test_a_program_started_by_module_name_isolates_itself(tmp_path: Path, module: str) -> None:
    """Users and supervisors of earlier versions start programs with `python -m`."""
    planted = Planted(tmp_path, STANDARD)
    arguments = {"svcdns": ["-version"], "svcdns.cli.handover": []}.get(module, ["--help"])
    path = Planted(tmp_path / "path", tuple({*STANDARD, "aiohttp", "msgspec"} - BEFORE_US))
    done = run([sys.executable, "-m", module, *arguments], tmp_path, PYTHONPATH=str(path.folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert (planted.imported, path.imported) == ("", "")


def test_the_name_of_the_command_is_kept(tmp_path: Path) -> None:
    """A script with the name `coredns` shows this name in its usage."""
    script = tmp_path / "coredns"
    script.write_text("import sys\nfrom svcdns.__main__ import main\nsys.exit(main())\n")
    done = run([sys.executable, str(script), "-nothing"], tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: coredns ")


def test_a_copy_outside_of_site_packages_is_run(tmp_path: Path) -> None:
    """The copy uses the installed dependencies. Modules next to it do not hide the standard library."""
    shutil.copytree(Path(svcdns.__file__).parent, tmp_path / "svcdns", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "svcdns" / "__init__.py").write_text('"""A copy."""\n\n__version__ = "7.7.7"\n')
    planted = Planted(tmp_path, STANDARD)
    done = run([sys.executable, "-m", "svcdns.cli.handover"], tmp_path)
    assert done.stdout.split()[1:] == ["7.7.7"], done.stderr
    assert planted.imported == ""


def test_the_bytecode_flag_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert "-B" in isolated.command("svcdns")
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert "-B" not in isolated.command("svcdns")


@pytest.mark.parametrize(("installed", "isolation"), [(True, "-E"), (False, "-I")])
def test_user_site_packages_are_used_only_if_svcdns_is_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool, isolation: str
) -> None:
    if installed:
        (tmp_path / f"svcdns-{__version__}.dist-info").mkdir()
    monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(tmp_path))
    assert isolation in isolated.command("svcdns")


def test_the_ports_are_bound_before_the_restart_in_an_isolated_interpreter(tmp_path: Path) -> None:
    """A program that restarts itself binds the DNS ports first, with the standard library only, and passes them on."""
    planted = Planted(tmp_path, STANDARD)
    call = "    arguments = parse(prog, argv)\n"
    install(tmp_path, show=("cli/serve.py", call, "    print(early)\n    return 0\n"))
    port = free_port()
    (tmp_path / "Corefile").write_text(f". {{\n bind 127.0.0.1\n whoami\n}}\ntls://.:{port} {{\n bind 127.0.0.1\n}}\n")
    done = run([sys.executable, "-m", "svcdns", "-p", str(port)], tmp_path)
    assert done.stdout.startswith(f"[('127.0.0.1', {port}, 'udp', 4, "), done.stderr
    assert planted.imported == ""
    assert run([sys.executable, "-m", "svcdns", "-conf", "stdin"], tmp_path).stdout == "[]\n"
