"""The messages that workers send to the control process for tools, as the results of calls (`Call`)."""

from __future__ import annotations

import msgspec


class WorkerStatus(msgspec.Struct, frozen=True, array_like=True):
    """The process id of a worker, and the entries, octets and budget of its answer tables."""

    pid: int
    entries: int
    octets: int
    limit: int
