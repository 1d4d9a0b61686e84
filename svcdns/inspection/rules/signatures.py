"""Finds zone files that *sign* cannot sign, and zone files whose signatures have expired or expire soon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from svcdns.corefile.blocks import Position
from svcdns.errors import SvcdnsError
from svcdns.inspection.problem import Problem, error, warning
from svcdns.inspection.reading import Reading
from svcdns.plugins.file.options import Options as FileOptions
from svcdns.plugins.sign.options import Options as SignOptions
from svcdns.plugins.sign.options import ZoneToSign

SOON: Final = 7 * 86400.0
"""A signature is reported if it expires within this number of seconds. *sign* signs a zone again earlier than that."""


def zones_to_sign(reading: Reading) -> Iterator[ZoneToSign]:
    """Yields the zones of all `sign` directives."""
    for plan in reading.plans:
        options = plan.options.get("sign")
        if isinstance(options, SignOptions):
            yield from options.zones


def zone_files_to_sign(reading: Reading) -> Iterator[Problem]:
    """Finds zone files of *sign* that are missing or have errors."""
    for zone in dict.fromkeys(zones_to_sign(reading)):
        from svcdns.plugins.sign.program import check_zone_file

        try:
            warnings = check_zone_file(zone.file, zone.zone)
        except SvcdnsError as failure:
            text = f"{failure}; the server starts, and does not sign {zone.zone}"
            yield error(zone.position, "file", text, starts=True)
        else:
            yield from (warning(zone.position, "file", text) for text in warnings)


def expiring_signatures(reading: Reading) -> Iterator[Problem]:
    """Finds zone files whose SOA record has a signature that has expired, or expires soon."""
    places: dict[str, Position] = {zone.signed_file: zone.position for zone in zones_to_sign(reading)}
    for plan in reading.plans:
        options = plan.options.get("file")
        if isinstance(options, FileOptions):
            places |= {file.path: file.position for file in options.files if Path(file.path).is_file()}
    for path, position in places.items():
        yield from _expiration(path, position)


def _expiration(path: str, position: Position) -> Iterator[Problem]:
    from svcdns.plugins.sign.schedule import check

    expiration = check(path, path, (), time.time()).expiration
    if not expiration:
        return
    left, day = expiration - time.time(), time.strftime("%Y-%m-%d", time.gmtime(expiration))
    if left < 0:
        text = f"the signature of the SOA record in {path} expired on {day}"
        yield error(position, "signature-expired", text, starts=True)
    elif left < SOON:
        yield warning(position, "signature-expires", f"the signature of the SOA record in {path} expires on {day}")
