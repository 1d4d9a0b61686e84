"""Types of arguments that several commands have."""

from __future__ import annotations

from typing import Any, Final

import click

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.errors import NameTextError


class _RecordType(click.ParamType[str]):
    """A record type: a mnemonic such as `AAAA`, in any letter case, or `TYPE65` (RFC 3597)."""

    name = "type"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the mnemonic in upper case."""
        text = str(value).upper()
        if text not in Type.__members__ and not (
            text.startswith("TYPE") and text[4:].isdigit() and int(text[4:]) < 65536
        ):
            self.fail(f"'{value}' is no record type; for example A, AAAA, SRV or PTR was expected", param, ctx)
        return text


class _Zone(click.ParamType[str]):
    """A domain name, which is made absolute and lower case."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the name as absolute text in lower case."""
        try:
            return names.to_text(names.from_text(str(value)).lower())
        except NameTextError as error:
            self.fail(f"'{value}' is no domain name: {error}", param, ctx)


RECORD_TYPE: Final = _RecordType()
ZONE: Final = _Zone()


def to_rtype(text: str) -> int:
    """Returns the number of a record type from a text that RECORD_TYPE has accepted."""
    found = Type.__members__.get(text)
    return int(found) if found is not None else int(text[4:])
