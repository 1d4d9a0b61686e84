"""Reads a Corefile and goes on after an error, so that one inspection finds all errors.

After each error, the wrong word, line or directive is left out, and the rest is read again. One position has at most
one problem of a kind.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from svcdns import plugins
from svcdns.chain.plan import BlockPlan, call_hook, share_options
from svcdns.control.configuration import bound_hosts, check_certificates, interfaces
from svcdns.corefile.blocks import Corefile, Directive, Position, ServerBlock, ServerKey, Token
from svcdns.corefile.directives import check_directives
from svcdns.corefile.env_options import with_options
from svcdns.corefile.errors import CorefileError, RepeatedError, UnclosedError
from svcdns.corefile.keys import check_overlap
from svcdns.corefile.load import DEFAULT_FILE, built_in, read_text, without_blocks
from svcdns.corefile.parser import parse
from svcdns.errors import SvcdnsError
from svcdns.inspection.other_builds import mend_option, mend_unknown
from svcdns.inspection.problem import Problem, Severity, error, from_log_line, warning
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.errors import HookError

T = TypeVar("T")

MAX_ERRORS: Final = 100
"""The most errors of syntax, and of one directive, after which the rest is no longer read."""
_VARIABLE: Final = re.compile(r"\{(?:\$|%)(\w+)%?\}")
_PLACEHOLDER: Final = "left-out.invalid"


@dataclass(slots=True)
class Reading:
    """A Corefile without its wrong parts, and the problems that were found.

    `plans` and `hosts` are those of `svcdns.control.configuration.Setup`, for the usable parts. `texts` has the content
    of the Corefile and of the imported files, by path.
    """

    path: str
    corefile: Corefile
    plans: tuple[BlockPlan, ...] = ()
    hosts: tuple[tuple[str, ...], ...] = ()
    problems: list[Problem] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def start(self) -> Position:
        """Returns the beginning of the Corefile, for problems without a better position."""
        return Position(self.path, 1, 1)

    def add(self, *problems: Problem) -> None:
        """Adds problems. If a problem of the same severity, text and position exists, the new one is dropped."""
        for one in problems:
            if all((one.place, one.message) != (known.place, known.message) for known in self.problems):
                self.problems.append(one)


def read(conf: str | None, *, environ: Mapping[str, str] = os.environ, default_port: int = 53) -> Reading:
    """Reads the Corefile at `conf`, as a start does, and returns it with all problems.

    `conf` is a path, `stdin`, or None for the file Corefile in the working directory. Raises CorefileMissingError if
    there is no such file.
    """
    text, path = read_text(conf)
    if text is None:
        return _planned(Reading(DEFAULT_FILE, built_in(default_port)), environ)
    return read_given(text, path, environ=environ, default_port=default_port)


def read_given(text: str, path: str, *, environ: Mapping[str, str] = os.environ, default_port: int = 53) -> Reading:
    """Reads the text of a Corefile as `read` does.

    `path` is the name of the Corefile in positions. Imports are relative to its folder.
    """
    reading = Reading(path, Corefile(path, ()), texts={path: text})
    reading.corefile = _parsed(reading, text, environ, default_port)
    if not reading.corefile.blocks and not reading.problems:
        reading.corefile = without_blocks(path, default_port)
        for line in reading.corefile.warnings:
            reading.add(from_log_line(line, "no-server-block", reading.start))
    _planned(reading, environ)
    reading.problems[:] = [_with_variable(one, reading, environ) for one in reading.problems]
    return reading


def _with_variable(problem: Problem, reading: Reading, environ: Mapping[str, str]) -> Problem:
    """Returns the error with the name of an environment variable that its word uses and that is not set."""
    lines = reading.texts.get(problem.position.file, "").split("\n")
    if problem.severity is not Severity.ERROR or problem.position.line > len(lines):
        return problem
    word = lines[problem.position.line - 1][problem.position.column - 1 :].split(maxsplit=1)[:1]
    used = _VARIABLE.findall(word[0]) if word else []
    missing = [name for name in used if name not in environ]
    if not missing:
        return problem
    return replace(problem, message=f"{problem.message}; the environment variable {missing[0]} is not set")


def _parsed(reading: Reading, text: str, environ: Mapping[str, str], default_port: int) -> Corefile:
    """Parses the text. After each error, parses it again without the wrong word or line."""
    seen: set[tuple[int, int]] = set()
    while len(reading.problems) < MAX_ERRORS:
        try:
            corefile = parse(text, reading.path, environ=environ, default_port=default_port)
        except CorefileError as failure:
            reading.add(error(failure.position, "syntax", failure.message))
            here = failure.position.file == reading.path and not isinstance(failure, UnclosedError)
            smaller = _without(text, failure.position, seen) if here else None
            if smaller is None:
                break
            text = smaller
        else:
            for line in corefile.warnings:
                reading.add(from_log_line(line, "ignored-text", reading.start))
            return corefile
    return Corefile(reading.path, ())


def _without(text: str, position: Position, seen: set[tuple[int, int]]) -> str | None:
    """Returns the text without the line at `position`. If the line has a brace, only the word is replaced.

    Returns None if the word was replaced before, or cannot be replaced.
    """
    lines = text.split("\n")
    at = position.line - 1
    if at >= len(lines):
        return None
    line, begin = lines[at], position.column - 1
    word = line[begin:].split(maxsplit=1)[:1]
    place = (position.line, position.column)
    if not any(brace in line for brace in "{}"):
        lines[at] = ""
    elif place not in seen and word and word[0].strip("{}") and "{" not in word[0]:
        seen.add(place)
        lines[at] = line[:begin] + line[begin:].replace(word[0], _PLACEHOLDER, 1)
    else:
        return None
    return "\n".join(lines)


def _planned(reading: Reading, environ: Mapping[str, str]) -> Reading:
    """Adds the plans of all blocks to the reading, and the problems of directives, options, keys and listeners."""
    order, available = _known(reading)
    reading.corefile = _with_known_directives(reading, (*order, "import"), available)
    options = {
        name: getattr(plugins.load(name), "ENVIRONMENT", ())
        for name in sorted({one.name.text for block in reading.corefile.blocks for one in block.directives})
    }
    complete = _tried(reading, "option", lambda: with_options(reading.corefile, options, environ))
    reading.corefile = complete or reading.corefile
    reading.plans = _plans(reading, order)
    _add_listeners(reading)
    return reading


def _known(reading: Reading) -> tuple[Sequence[str], Collection[str]]:
    directives = {one.name.text for block in reading.corefile.blocks for one in block.directives}
    known = _tried(reading, "plugin", lambda: plugins.known(directives))
    return known or (plugins.ORDER, frozenset(plugins.BUILT))


def _with_known_directives(reading: Reading, known: Collection[str], available: Collection[str]) -> Corefile:
    """Returns the Corefile without the directives that svcdns does not know. Adds a problem for each of them."""
    blocks = []
    for block in reading.corefile.blocks:
        kept = []
        for directive in block.directives:
            alone = Corefile(reading.path, (ServerBlock(block.keys, (directive,)),))
            try:
                check_directives(alone, known, available)
            except CorefileError as failure:
                name = directive.name.text
                message, mend = mend_unknown(name, failure.message)
                reading.add(error(failure.position, "unknown-directive", message, mend))
            else:
                kept.append(directive)
        blocks.append(msgspec.structs.replace(block, directives=tuple(kept)))
    return msgspec.structs.replace(reading.corefile, blocks=tuple(blocks))


def _plans(reading: Reading, order: Sequence[str]) -> tuple[BlockPlan, ...]:
    plans = tuple(BlockPlan(block.keys, block.directives) for block in reading.corefile.blocks)
    for name in order:
        for plan in plans:
            if plan.block(name).directives:
                _add_options(reading, plan, name)
        try:
            share_options(name, plans, plugins.load)
        except CorefileError as failure:
            reading.add(error(failure.position, "option", failure.message))
    return plans


def _add_options(reading: Reading, plan: BlockPlan, name: str) -> None:
    """Adds the options of one plugin to the plan of a block.

    After each error, the wrong option is left out. If the error is not in an option, the whole directive is left out.
    """
    module: Any = plugins.load(name)
    block = plan.block(name)
    for _ in range(MAX_ERRORS):
        if not block.directives:
            return
        try:
            options = call_hook(name, "parse", block, partial(module.parse, block))
            settings = call_hook(name, "settings", block, partial(module.PLUGIN.settings, options))
        except CorefileError as failure:
            reading.add(error(failure.position, "option", failure.message, mend_option(name, failure.message)))
            if isinstance(failure, RepeatedError):
                for found in _other_options(*block.directives[:2]):
                    reading.add(found)
            block = _block_without(block, failure.position)
        except HookError as failure:
            reading.add(error(block.directives[0].position, "plugin", str(failure)))
            return
        else:
            plan.options[name], plan.settings[name] = options, settings
            for line in settings.warnings:
                reading.add(from_log_line(line, "ignored-text", block.directives[0].position))
            return


def _other_options(first: Directive, second: Directive) -> Iterator[Problem]:
    """Yields a note for each option of a plugin's second directive that the first one does not have."""
    known = {_words(line) for line in first.body or ()}
    for line in second.body or ():
        if _words(line) not in known:
            text = f"'{' '.join(_words(line))}' is only in the second '{first.name.text}'"
            mend = f"write it in the first one, at line {first.position.line}, and remove the second one"
            yield warning(line.position, "second-directive", text, mend)


def _words(line: Directive) -> tuple[str, ...]:
    return (line.name.text, *(word.text for word in line.arguments))


def _block_without(block: Block, position: Position) -> Block:
    """Returns the block without the option at `position`.

    If there is no such option, leaves out the directive there.
    """
    kept: list[Directive] = []
    found = False
    for directive in block.directives:
        smaller = None if found else _directive_without(directive, position)
        if smaller is not None:
            kept.append(smaller)
            found = True
        elif found or not _holds(directive, position):
            kept.append(directive)
        else:
            found = True
    return replace(block, directives=tuple(kept) if found else ())


def _directive_without(directive: Directive, position: Position) -> Directive | None:
    """Returns the directive without the innermost option at `position`, or None if there is no such option."""
    for number, line in enumerate(directive.body or ()):
        if _holds(line, position):
            inner = _directive_without(line, position)
            body = directive.body or ()
            replaced = (*body[:number], *(() if inner is None else (inner,)), *body[number + 1 :])
            return msgspec.structs.replace(directive, body=replaced)
    return None


def _holds(line: Directive, position: Position) -> bool:
    return any(word.position == position for word in words(line))


def words(line: Directive) -> Iterator[Token]:
    """Yields the tokens of a line, and of the lines in its braces."""
    yield line.name
    yield from line.arguments
    for inner in line.body or ():
        yield from words(inner)


def _add_listeners(reading: Reading) -> None:
    """Adds the addresses of each block, and the problems of overlapping keys and of certificates."""
    found = interfaces()
    hosts = []
    for plan in reading.plans:
        bound = _tried(reading, "bind", partial(bound_hosts, plan, found))
        hosts.append(bound if bound is not None else ("",))
    reading.hosts = tuple(hosts)
    with_view = [number for number, plan in enumerate(reading.plans) if plan.has_view]
    served: list[tuple[ServerBlock, tuple[str, ...]]] = []
    for block, bound in zip(reading.corefile.blocks, reading.hosts, strict=True):
        keys: list[ServerKey] = []
        for key in block.keys:
            tried = msgspec.structs.replace(block, keys=(*keys, key))
            before = [one for one, _ in served], [one for _, one in served]
            try:
                check_overlap([*before[0], tried], [*before[1], bound], with_view)
            except CorefileError as failure:
                reading.add(error(failure.position, "overlap", failure.message))
            else:
                keys.append(key)
        served.append((msgspec.structs.replace(block, keys=tuple(keys)), bound))
    for plan, bound in zip(reading.plans, reading.hosts, strict=True):
        if any(key.transport == "tls" for key in plan.keys):
            same = [(one, where) for one, where in zip(reading.plans, reading.hosts, strict=True) if one is not plan]
            group = (plan, *(one for one, _ in same))
            _tried(reading, "certificate", partial(check_certificates, group, (bound, *(where for _, where in same))))


def _tried(reading: Reading, rule: str, call: Callable[[], T]) -> T | None:
    """Returns the result of `call`. An expected error becomes a problem, and the result is then None."""
    try:
        return call()
    except CorefileError as failure:
        reading.add(error(failure.position, rule, failure.message))
    except SvcdnsError as failure:
        reading.add(error(reading.start, rule, str(failure)))
    return None
