"""Everything that the author of a plugin needs. docs/writing-a-plugin.md shows how to use it.

```python
from svcdns.plugin_api import Plugin, Query, Reply, names
```
"""

from __future__ import annotations

from svcdns.cluster.changes import Dependency
from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Following, Plugin, steps, then
from svcdns.plugin_api.environment import Block, Content, Environment
from svcdns.plugin_api.errors import ContractError
from svcdns.plugin_api.networks import Network, Networks, NetworkTextError, packed
from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.reply import NOT_REUSABLE, UNTIL_CHANGED, CacheScope, Reply
from svcdns.plugin_api.settings import Settings
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.wire import names
from svcdns.wire.codes import AA, Class, Rcode, Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Edns, Record

__all__ = [
    "AA",
    "NOT_REUSABLE",
    "UNTIL_CHANGED",
    "Answer",
    "Block",
    "CacheScope",
    "Class",
    "Client",
    "Content",
    "ContractError",
    "CorefileError",
    "Dependency",
    "Directive",
    "Edns",
    "Environment",
    "Family",
    "Following",
    "MetricKind",
    "NameTextError",
    "Network",
    "NetworkTextError",
    "Networks",
    "Plugin",
    "Query",
    "Rcode",
    "Record",
    "Reply",
    "Settings",
    "Token",
    "Type",
    "arguments",
    "names",
    "packed",
    "steps",
    "then",
]
