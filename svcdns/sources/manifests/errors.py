"""The errors in manifests. Each error has a position in a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from svcdns.cluster.watch_options import SourceError

_CONSEQUENCE: Final = re.compile(r"; \S+ is left out; an API server would refuse this \w+$")


class FilePosition(NamedTuple):
    """A line of a file, counted from 1. Line 0 means the whole file or folder."""

    path: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


class ManifestError(SourceError):
    """Raised if a manifest cannot be used.

    The text of the error is one line: `FILE:LINE: what is wrong and what was expected`.
    """

    def __init__(self, position: FilePosition, text: str) -> None:
        super().__init__(f"{position}: {text}")
        self.position, self.text = position, text


class NotKubernetesError(ManifestError):
    """Raised if a document is not a Kubernetes object. The document is skipped."""


class NotYamlError(NotKubernetesError):
    """Raised if a file is not YAML, for example because it is a template. The whole file is skipped."""


class WrongTypeError(ManifestError):
    """The error of a value whose type is wrong only because quotes are missing, or are too many."""

    @property
    def cause(self) -> ManifestError:
        """The same error without the statement of what is left out."""
        return ManifestError(self.position, _CONSEQUENCE.sub("", self.text))


class SeveralErrors(ManifestError):
    """Raised if several manifests cannot be used. The text of the error has one line for each of them."""

    def __init__(self, errors: Sequence[ManifestError]) -> None:
        """`errors` has at least two errors."""
        SourceError.__init__(self, "\n".join(map(str, errors)))
        self.position, self.text = errors[0].position, errors[0].text


def raise_all(errors: Sequence[ManifestError]) -> None:
    """Raises the errors as one ManifestError, if there are any."""
    if errors:
        raise errors[0] if len(errors) == 1 else SeveralErrors(errors)
