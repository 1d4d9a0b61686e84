"""`make audit`: checks the packages of lock files for known vulnerabilities, with pip-audit.

Run it with the Python of an environment that has pip-audit. The exit code is 1 if a package has a known vulnerability.
It is 0 if none has, and also if the database of vulnerabilities cannot be reached, because not every machine may reach
it; then one line says so.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

UNREACHABLE = "audit: the database of vulnerabilities cannot be reached, so nothing was checked"


def report(output: str) -> tuple[list[str], int]:
    """Returns the lines to print and the exit code, for the JSON text that pip-audit wrote."""
    try:
        packages: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError):
        return [UNREACHABLE], 0
    checked = [one for one in packages if "skip_reason" not in one]
    if not checked:
        return [UNREACHABLE], 0
    lines = [
        f"{one['name']} {one['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version'}"
        for one in checked
        for found in one["vulns"]
    ]
    left_out = [one["name"] for one in packages if "skip_reason" in one]
    if left_out:
        lines.append(f"audit: not in the database: {', '.join(left_out)}")
    vulnerable = any(one["vulns"] for one in checked)
    return [*lines, f"audit: {len(checked)} packages were checked"], int(vulnerable)


def main(files: Sequence[str]) -> int:
    """Checks the lock files, prints what was found, and returns the exit code."""
    lines: dict[str, None] = {}
    code = 0
    for file in files:
        command = ["-m", "pip_audit", "--require-hashes", "--disable-pip", "--format", "json", "-r", file]
        done = subprocess.run(
            [sys.executable, *command, "--progress-spinner", "off"], capture_output=True, text=True, check=False
        )
        found, failed = report(done.stdout)
        lines |= dict.fromkeys(found)
        code = max(code, failed)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
