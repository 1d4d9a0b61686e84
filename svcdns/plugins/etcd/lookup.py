"""Finds the services of a name, as CoreDNS finds them in etcd (docs/behaviour/plugins.md#etcd)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from svcdns.cluster.addresses import rdata_of
from svcdns.errors import SvcdnsError
from svcdns.plugins.etcd.service import Entry, Service
from svcdns.plugins.etcd.tree import Tree
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.errors import NameTextError

DEFAULT_TTL: Final = 300
DEFAULT_PRIORITY: Final = 10
MAX_LOOKUPS: Final = 500
"""The most look-ups for one query. A chain of CNAME records in etcd could cause any number."""
_WILDCARDS: Final = ("*", "any")


class NoSuchNameError(SvcdnsError):
    """Raised if there is no key for a name."""


class LookupFailedError(SvcdnsError):
    """Raised if a value for a name cannot be used."""


@dataclass(frozen=True, slots=True)
class Found:
    """A service, with its defaults filled in. `packed` is the type and the RDATA of its address, None for a name.

    `rests_on_lease` is True if the TTL depends on the time that a lease has left.
    """

    key: str
    service: Service
    ttl: int
    packed: tuple[int, bytes] | None
    rests_on_lease: bool = False

    @property
    def kind(self) -> int:
        """Returns the type of the record that the host makes: A, AAAA, CNAME, or TXT for a service with a text."""
        if self.packed is not None:
            return self.packed[0]
        return Type.TXT if self.service.text else Type.CNAME

    def name(self, text: str | None = None) -> bytes:
        """Returns the host, or `text`, as a name in wire format. Raises LookupFailedError."""
        host = self.service.host if text is None else text
        try:
            return names.from_text(host)
        except NameTextError as error:
            raise LookupFailedError(f"{self.key}: '{host}' is no name: {error}") from error

    def own_name(self) -> bytes:
        """Returns the name that the key stands for. The key's first part, often `skydns`, is no label of the name."""
        out = self.key.split("/")
        if not out[-1]:
            del out[-1]
        return self.name(".".join(reversed(out[2:])))

    def target(self, name: bytes) -> bytes:
        """Returns `name` without its first labels. The service's field `targetstrip` is the number of these labels."""
        count = self.service.target_strip
        suffixes = names.suffixes(name)
        return suffixes[count] if 0 < count < len(suffixes) - 1 else name


class Lookup:
    """The look-ups for one query."""

    def __init__(
        self,
        tree: Tree,
        prefix: Sequence[str],
        ttl_of_lease: Callable[[int], int],
        depends_on: Callable[[Sequence[str]], None],
    ) -> None:
        """`prefix` has the parts of the source's path.

        `ttl_of_lease` returns the TTL for a lease, or 0. `depends_on` is called with each path that is searched.
        """
        self._tree, self._prefix = tree, tuple(prefix)
        self._ttl_of_lease, self._depends_on = ttl_of_lease, depends_on
        self._left = MAX_LOOKUPS
        self.rests_on_lease = False

    def services(self, name: bytes, rtype: int, *, exact: bool = False) -> list[Found]:
        """Returns the services of a name; if not `exact`, also those of names below it.

        Raises NoSuchNameError and LookupFailedError.
        """
        if not self._left:
            raise LookupFailedError(f"more than {MAX_LOOKUPS} look-ups for one query")
        self._left -= 1
        whole = self.path(name)
        wildcard = next((at for at, part in enumerate(whole) if at >= len(self._prefix) and part in _WILDCARDS), None)
        path = whole[:wildcard]
        self._depends_on(path)
        entries = [] if exact else self._tree.below(path)
        if not entries:
            one = self._tree.exact(path)
            if one is None:
                raise NoSuchNameError(names.to_text(name))
            entries = [one]
        if wildcard is not None:
            entries = [entry for entry in entries if _matches(entry.key, whole)]
        found = [made for entry in entries if (made := self._made(entry, rtype)) is not None]
        self.rests_on_lease = self.rests_on_lease or any(one.rests_on_lease for one in found)
        return _group(found)

    def path(self, name: bytes) -> tuple[str, ...]:
        """Returns the parts of the key that stands for a name."""
        labels = [names.label_text(label) for label in reversed(names.labels_of(name.lower()))]
        return self._prefix + tuple(part for label in labels for part in label.split("/") if part)

    def _made(self, entry: Entry, rtype: int) -> Found | None:
        """Returns the service of an entry, or None if the service has no record of the type `rtype`."""
        if entry.error:
            raise LookupFailedError(f"{entry.key}: {entry.error}")
        service = entry.service
        if not service.host and not (rtype == Type.TXT and service.text):
            return None
        from_lease = self._ttl_of_lease(entry.lease) if entry.lease else 0
        ttls = [ttl for ttl in (from_lease, service.ttl) if ttl]
        if not service.priority:
            service = msgspec.structs.replace(service, priority=DEFAULT_PRIORITY)
        ttl = min(ttls, default=DEFAULT_TTL)
        return Found(entry.key, service, ttl, rdata_of(service.host), bool(from_lease))


def _matches(key: str, wanted: Sequence[str]) -> bool:
    """Returns True if the key begins with the parts `wanted`, in which a wildcard stands for any part."""
    own = key.removeprefix("/").split("/")
    return len(own) >= len(wanted) and all(
        part in _WILDCARDS or part == mine for part, mine in zip(wanted, own, strict=False)
    )


def _group(found: list[Found]) -> list[Found]:
    """Leaves out services of other groups if the services with the shortest keys have one group, as SkyDNS does."""
    if not found:
        return found
    group, slashes = found[0].service.group, found[0].key.count("/")
    lengths = [0] * len(found)
    for at, one in enumerate(found):
        lengths[at] = one.key.count("/")
        if lengths[at] < slashes:
            if not one.service.group:
                break
            slashes, group = lengths[at], one.service.group
    if not group:
        return found
    kept = []
    for length, one in zip(lengths, found, strict=True):
        if one.service.group and length == slashes and one.service.group != group:
            return found
        if one.service.group in ("", group):
            kept.append(one)
    return kept
