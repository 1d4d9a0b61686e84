"""Core dumps contain no memory of svcdns's processes."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
from svcdns.process.core_dumps import exclude_memory
exclude_memory()
exclude_memory()
shown = "import resource; print(resource.getrlimit(4)[0], open('/proc/self/coredump_filter').read())"
os.execv(sys.executable, [sys.executable, "-c", shown])
"""


def test_core_dumps_have_no_memory_also_in_child_processes() -> None:
    """The size limit is 0 and the filter is empty, also after another program was executed."""
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    limit, mappings = found.stdout.split()
    assert (limit, int(mappings, 16)) == ("0", 0)
