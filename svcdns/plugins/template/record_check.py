"""Control's check of templates that say the same for every name: what they render has to be a resource record.

A template that is none answers SERVFAIL, as in CoreDNS, so it is a warning and ends no start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from svcdns.plugins.template.go_template import ParsedTemplate, RenderError, Struct
from svcdns.plugins.template.options import Options
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire.codes import class_text, type_text
from svcdns.wire.errors import NameTextError
from svcdns.wire.zone_words import ZoneFileError

_FIXED: Final = frozenset({"Name", "Zone", "Class", "Type"})
"""Fields whose values fit in everywhere alike."""


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - there is nothing to read
    """No data; warns of templates that are no records."""
    for rule in (rule for rule in options.rules if rule.zones):
        sample = Struct(
            Zone=rule.zones[0], Name=f"name.{rule.zones[0]}", Class=class_text(rule.rclass), Type=type_text(rule.rtype)
        )
        for template, place in zip((*rule.answer, *rule.additional, *rule.authority), rule.places, strict=True):
            error = _error(template, sample)
            if error:
                where = f"{place.file}:{place.line}:{place.column}"
                plugin_logger("template").warning(
                    "%s: the template makes no record, so that its answers are SERVFAIL: %s", where, error
                )
    return {}


def _error(template: ParsedTemplate, sample: Struct) -> str:
    """Why a template makes no record; empty if it does, or if that depends on the query."""
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
