"""Finds the directives and options of a Corefile that CoreDNS does not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from svcdns import plugins
from svcdns.corefile.env_options import is_from_environment
from svcdns.inspection.problem import Problem, Severity
from svcdns.inspection.reading import Reading

OWN_DIRECTIVES: Final = {"visibility": "of svcdns only", "rrl": "an external plugin of CoreDNS"}


def differences(reading: Reading) -> Iterator[Problem]:
    """Yields a note for each line that CoreDNS 1.14.7 refuses or reads differently."""
    for plan in reading.plans:
        for directive in plan.directives:
            name = directive.name.text
            if name in OWN_DIRECTIVES:
                text = f"CoreDNS does not start with '{name}', which is {OWN_DIRECTIVES[name]}"
                yield Problem(Severity.NOTE, directive.position, "coredns", text)
                continue
            own = getattr(plugins.load(name), "ENVIRONMENT", ())
            for line in directive.body or ():
                if line.name.text in own and not is_from_environment(line):
                    text = f"CoreDNS does not start with '{line.name.text}', an option of svcdns"
                    mend = (
                        f"to be able to go back, set the environment variable SVCDNS_{line.name.text.upper()} instead"
                    )
                    yield Problem(Severity.NOTE, line.position, "coredns", text, mend)
    for problem in list(reading.problems):
        if problem.rule == "ignored-text":
            yield Problem(Severity.NOTE, problem.position, "coredns", f"CoreDNS says nothing here: {problem.message}")
