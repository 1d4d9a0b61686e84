"""`svcdns man`: manual pages in the format of man(7), made from the help of the commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from svcdns import __version__
from svcdns.cli.errors import CannotRun

_SPECIAL: Final = re.compile(r"([\\-])")


def page(group: click.Group, name: str = "") -> str:
    """Returns the manual page of a command of the group, or of the group itself without a name."""
    context = click.Context(group, info_name="svcdns")
    command: click.Command = group
    if name:
        found = group.get_command(context, name)
        if found is None:
            raise CannotRun(f"no command '{name}'; the commands are {', '.join(group.list_commands(context))}")
        command, context = found, click.Context(found, context, name)
    title = f"svcdns-{name}" if name else "svcdns"
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = [
        f'.TH "{title.upper()}" "1" "" "svcdns {__version__}" "svcdns"',
        ".SH NAME",
        f"{_text(title)} \\- {_text(command.get_short_help_str(200).rstrip('.'))}",
        ".SH SYNOPSIS",
        f"\\fB{_text(usage)}\\fR",
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
    ]
    params = [one for one in command.get_params(context) if isinstance(one, click.Option)]
    options = [record for one in params if (record := one.get_help_record(context)) is not None]
    if options:
        lines.append(".SH OPTIONS")
        for spelling, text in options:
            lines += [".TP", f"\\fB{_text(spelling)}\\fR", _text(text)]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for one in command.list_commands(context):
            inner = command.get_command(context, one)
            assert inner is not None
            lines += [".TP", f"\\fB{_text(context.command_path)} {one}\\fR", _text(inner.get_short_help_str(200))]
            if name:
                lines += _options_of(inner, click.Context(inner, context, one))
    if command.epilog:
        lines += _examples(command.epilog)
    return "\n".join(lines) + "\n"


def _options_of(command: click.Command, context: click.Context) -> list[str]:
    """Returns the arguments of a command inside a group, and its options, as indented paragraphs."""
    usage = command.get_usage(context).removeprefix(f"Usage: {context.command_path} ")
    lines = [".RS", ".PP", f"Arguments: {_text(usage)}"]
    for one in command.get_params(context):
        record = one.get_help_record(context)
        if isinstance(one, click.Option) and record is not None:
            lines += [".TP", f"\\fB{_text(record[0])}\\fR", _text(record[1])]
    return [*lines, ".RE"]


def write(group: click.Group, folder: str) -> list[Path]:
    """Writes the pages of the group and of all its commands into a folder. Returns their paths."""
    context = click.Context(group, info_name="svcdns")
    out = []
    for name in ("", *group.list_commands(context)):
        path = Path(folder) / (f"svcdns-{name}.1" if name else "svcdns.1")
        try:
            path.write_text(page(group, name))
        except OSError as failure:
            raise CannotRun(f"{path} cannot be written: {(failure.strerror or str(failure)).lower()}") from failure
        out.append(path)
    return out


def _text(text: str) -> str:
    """Returns the text with the characters escaped that man(7) reads specially."""
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    escaped = _SPECIAL.sub(lambda found: "\\e" if found[1] == "\\" else "\\-", text)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _paragraphs(text: str) -> list[str]:
    out: list[str] = []
    for paragraph in text.split("\n\n"):
        out += [".PP", *_block(paragraph)]
    return out


def _block(paragraph: str) -> list[str]:
    """Returns the lines of a paragraph, one below the other if it begins with click's mark for fixed lines."""
    if not paragraph.lstrip().startswith("\b"):
        return [_text(paragraph)]
    lines = [line for line in paragraph.replace("\b", "").split("\n") if line.strip()]
    return [".nf", *(_fixed(line) for line in lines), ".fi"]


def _fixed(line: str) -> str:
    return "  " + _escaped(line.strip())


def _examples(epilog: str) -> list[str]:
    first, _, rest = epilog.replace("\b", "").strip().partition("\n")
    if not first.startswith("Examples"):
        return [".SH NOTES", _text(epilog)]
    return [".SH EXAMPLES", ".nf", *(_fixed(line) for line in rest.split("\n") if line.strip()), ".fi"]
