"""The Pods of clients, by their addresses, for the samples of queries (plugin *traffic*).

The Pods come from the cluster views with Pods, or from a watch for this purpose only, whose objects the workers do not
get. A Pod takes about 400 octets in control. If several Pods have the same address, such as that of a node, the address
identifies no Pod.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from sys import intern
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put
from svcdns.cluster.objects import Pod
from svcdns.cluster.watch_options import WatchOptions
from svcdns.errors import SvcdnsError
from svcdns.log_line import LogLine

if TYPE_CHECKING:
    from svcdns.sources.api.client import RequestObserver


class PodName(NamedTuple):
    """The namespace and the name of a Pod."""

    namespace: str
    name: str


class ClientNames:
    """The Pods of one cluster, by their addresses."""

    def __init__(self) -> None:
        self._pods: dict[str, PodName | set[PodName]] = {}
        """By address: the Pod, or the Pods if several have the address."""
        self._addresses: dict[PodName, str | tuple[str, ...]] = {}
        self._unlisted: set[PodName] | None = None
        """The known Pods that a list has not contained so far; None if no list is being read."""

    def __len__(self) -> int:
        """Returns the number of Pods with an address."""
        return len(self._addresses)

    def find(self, address: str) -> PodName | None:
        """Returns the only Pod with the address, or None."""
        found = self._pods.get(address)
        return found if isinstance(found, PodName) else None

    def apply(self, changes: Iterable[Change]) -> None:
        """Applies changes of Pods. Ignores changes of other kinds."""
        for change in changes:
            match change:
                case Put(Pod() as pod):
                    self.put(pod)
                case Gone(Kind.POD):
                    self.remove(PodName(change.namespace, change.name))
                case Begin(Kind.POD):
                    self._unlisted = set(self._addresses)
                case Complete(Kind.POD):
                    for name in self._unlisted or ():
                        self.remove(name)
                    self._unlisted = None

    def put(self, pod: Pod) -> None:
        """Adds or replaces a Pod."""
        name = PodName(intern(pod.namespace), pod.name)
        if self._unlisted is not None:
            self._unlisted.discard(name)
        addresses = pod.ip if not pod.more_ips else (pod.ip, *pod.more_ips)
        if self._addresses.get(name) == addresses:
            return
        self.remove(name)
        if not pod.ip:
            return
        self._addresses[name] = addresses
        for address in (addresses,) if isinstance(addresses, str) else addresses:
            other = self._pods.get(address)
            if other is None:
                self._pods[address] = name
            else:
                self._pods[address] = {name, *(other if isinstance(other, set) else (other,))}

    def remove(self, name: PodName) -> None:
        """Removes a Pod, if it is known."""
        addresses = self._addresses.pop(name, ())
        for address in (addresses,) if isinstance(addresses, str) else addresses:
            found = self._pods.pop(address)
            if isinstance(found, set):
                rest = found - {name}
                self._pods[address] = rest if len(rest) > 1 else next(iter(rest))


async def follow_pods(names: ClientNames, options: WatchOptions, log: logging.Logger, observe: RequestObserver) -> None:
    """Keeps `names` up to date with the Pods of the cluster that `options` describe. Runs until cancelled.

    Logs an error and returns if the access to the cluster cannot be set up.
    """
    options = msgspec.structs.replace(options, pods=True, labels="")
    try:
        if options.manifests:
            from svcdns.sources.manifests import ManifestsSource

            manifests = ManifestsSource(options, log=log)
            await manifests.configure()
            await manifests.follow(names.apply)
        else:
            from svcdns.sources.api.source import ApiServerSource

            source = ApiServerSource(options, log=log, observe=observe, only=(Kind.POD,))
            await source.configure()
            await source.follow(names.apply)
    except SvcdnsError as error:
        log.error(LogLine("traffic: clients are not named", error=error))
