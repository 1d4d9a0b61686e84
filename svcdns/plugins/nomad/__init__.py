"""The `nomad` plugin: answers from the services that are registered in Nomad; see docs/plugins/nomad.md."""

from __future__ import annotations

from typing import Final

from svcdns.plugins.nomad.files import gather
from svcdns.plugins.nomad.handler import Nomad
from svcdns.plugins.nomad.options import Options, parse

PLUGIN: Final = Nomad

__all__ = ["PLUGIN", "Nomad", "Options", "gather", "parse"]
