"""The process that signs one zone, so that neither control nor a worker waits for it.

The command is `svcdns.plugins.sign.program`, and the standard input has an encoded `Job`. The process writes the signed
file and then an encoded `Result` to its standard output. The process has a low priority, and if memory is short, the
kernel ends it before other processes. Only control and this process read private keys.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from svcdns.errors import SvcdnsError
from svcdns.plugins.sign.key_files import load
from svcdns.process.atomic_file import replace_file
from svcdns.process.parent_death import die_with_parent
from svcdns.wire import names
from svcdns.wire.record import Record
from svcdns.wire.record_text import line
from svcdns.wire.zone_text import read
from svcdns.zones.file_reads import FileReads
from svcdns.zones.signing import Period, signed_zone

NICE: Final = 5
"""The process's niceness (nice(2))."""
OOM_SCORE: Final = "800"
"""The process's oom_score_adj (proc(5)): if memory is short, the kernel prefers to end this process."""


class Job(msgspec.Struct, frozen=True, array_like=True):
    """What to sign: the file of a zone (absolute text), the signed file, and the paths of the keys without suffix.

    `serial` is the new serial. `inception` and `expiration` are Unix seconds.
    """

    file: str
    zone: str
    signed_file: str
    keys: tuple[str, ...]
    serial: int
    inception: int
    expiration: int


class Result(msgspec.Struct, frozen=True, array_like=True):
    """The result of a `Job`. `error` is empty if the signed file was written."""

    error: str
    warnings: tuple[str, ...] = ()


def sign(job: Job) -> Result:
    """Signs a zone and replaces its signed file. If that fails, the signed file stays. Blocks."""
    warnings: list[str] = []
    try:
        origin = names.from_text(job.zone).lower()
        keys = [load(path, origin) for path in job.keys]
        records = _records(job.file, origin, warnings.append, is_replaced=Path(job.signed_file).exists())
        period = Period(job.inception, job.expiration)
        portions = signed_zone(records, origin, keys, period, job.serial & 0xFFFFFFFF)
        text = "".join(["".join([f"{line(record)}\n" for record in portion]) for portion in portions])
        replace_file(Path(job.signed_file), text.encode())
    except SvcdnsError as error:
        return Result(str(error), tuple(warnings))
    except (OSError, ValueError) as error:  # ValueError: a path with a zero octet
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        return Result(f"failed to move zone file into place: {job.signed_file}: {reason}", tuple(warnings))
    return Result("", tuple(warnings))


def check_zone_file(file: str, zone: str) -> list[str]:
    """Checks whether a zone (absolute text) can be signed. Returns warnings about its file. Raises SvcdnsError."""
    origin, warnings = names.from_text(zone).lower(), list[str]()
    next(signed_zone(_records(file, origin, warnings.append), origin, (), Period(0, 0), 0))
    return warnings


def _records(file: str, origin: bytes, warn: Callable[[str], None], *, is_replaced: bool = False) -> list[Record]:
    """Returns the records of a zone file. If a signed file is to be replaced, the zone file must be complete."""
    reads = FileReads((file,))
    content = reads.read_settled(file) if is_replaced else reads.read(file)
    return read(content.data, origin, file, warn, lambda included: reads.read(str(included)).data)


def main() -> int:
    """Signs the zone of the job on standard input."""
    die_with_parent()
    os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    gc.disable()  # the process ends before its reference cycles could take much memory
    result = sign(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Job))
    sys.stdout.buffer.write(msgspec.msgpack.encode(result))
    sys.stdout.flush()
    os._exit(0)  # an ordinary exit would take time to free the memory


if __name__ == "__main__":
    sys.exit(main())
