"""Warns about templates that cannot make a valid resource record for any query. The control process runs this check.

A template is checked only if its validity does not depend on the query. The server starts in spite of a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from svcdns.log_line import LogLine
from svcdns.plugins.template.go_template import ParsedTemplate, RenderError, Struct
from svcdns.plugins.template.options import Options
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire.codes import class_text, type_text
from svcdns.wire.errors import NameTextError
from svcdns.wire.zone_words import ZoneFileError

_FIXED: Final = frozenset({"Name", "Zone", "Class", "Type"})
"""The fields that cannot make a valid record invalid, so one sample value of each is enough for the check."""


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - there is nothing to read
    """Logs a warning for each template that makes no valid record for any query. Returns no data for the workers."""
    for rule in (rule for rule in options.rules if rule.zones):
        zone = rule.zones[0]
        name = "name." if zone == "." else f"name.{zone}"
        sample = Struct(Zone=zone, Name=name, Class=class_text(rule.rclass), Type=type_text(rule.rtype))
        for template, place in zip((*rule.answer, *rule.additional, *rule.authority), rule.places, strict=True):
            error = _error(template, sample)
            if error:
                where = f"{place.file}:{place.line}:{place.column}"
                plugin_logger("template").warning(
                    LogLine("the template makes no record: its answers are SERVFAIL", position=where, error=error)
                )
    return {}


def _error(template: ParsedTemplate, sample: Struct) -> str:
    """Returns the reason why a template makes no valid record for any query.

    Returns an empty text if the template makes a valid record, or if this depends on the query.
    """
    if not template.fields <= _FIXED:
        return ""
    from svcdns.wire.zone_text import read_record

    try:
        read_record(template.render(sample))
    except RenderError:
        return ""
    except (ZoneFileError, NameTextError) as error:
        return str(error)
    return ""
