"""Makes and stores the signatures of RRsets.

Signatures of a slow algorithm are made in a thread, because they would delay other replies. OpenSSL releases the
interpreter's lock meanwhile. A quick signature takes less time than a change of threads, so the event loop makes it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Final, NamedTuple

from svcdns.dnssec.keys import SigningKey
from svcdns.dnssec.signatures import rrsig_rdata
from svcdns.wire.codes import Type
from svcdns.wire.record import Record

ORIGINAL_TTL: Final = 3600
"""The original TTL of all signatures in seconds, as in CoreDNS. The plugin *cache* may lower the TTLs of records."""
HOUR: Final = 3600
DAY: Final = 24 * HOUR
BEFORE: Final = 3 * HOUR
"""The seconds before now at which a signature becomes valid, for clients whose clocks are wrong."""
VALID: Final = 8 * DAY
RENEWAL: Final = 2 * DAY
"""A signature is made again if it expires within this number of seconds."""
MAX_WAITING: Final = 1000
"""The most RRsets that may wait for the thread that signs."""


class Signatures(NamedTuple):
    """The RRSIG RDATA of one RRset by each key. `renewal` is the Unix time until which they are used."""

    rdatas: tuple[bytes, ...]
    renewal: float


class RRset(NamedTuple):
    """An RRset and the zone that signs it. `owner` is in lower case, and `rdatas` are sorted."""

    owner: bytes
    rtype: int
    rclass: int
    rdatas: tuple[bytes, ...]
    zone: bytes

    def digest(self) -> bytes:
        """Returns the key of the RRset's signatures in the store. The TTL is no part of a signature."""
        head = b"%b%b%d %d" % (self.owner, self.zone, self.rtype, self.rclass)
        parts = [b"%d %b" % (len(rdata), rdata) for rdata in self.rdatas]
        return blake2b(b"".join((head, *parts)), digest_size=20).digest()


class Overloaded(Exception):
    """Raised if too many RRsets wait for their signatures."""


class Signer:
    """The keys of one server block, and the store of the signatures that were made with them."""

    def __init__(self, keys: Sequence[SigningKey], capacity: int, now: Callable[[], float]) -> None:
        """Stores the signatures of `capacity` RRsets. `now` returns the time in Unix seconds."""
        self.keys, self._capacity, self._now = tuple(keys), capacity, now
        self.quick = all(key.quick for key in keys)
        ksks, zsks = [key for key in keys if key.is_ksk], [key for key in keys if key.is_zsk]
        split = bool(ksks and zsks)
        self._ksks, self._zsks = (ksks, zsks) if split else (keys, keys)
        self._limit = capacity
        self._store: OrderedDict[bytes, Signatures] = OrderedDict()
        self._waiting: dict[bytes, asyncio.Future[Signatures]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        """Returns the number of RRsets whose signatures are stored."""
        return len(self._store)

    def batch(self) -> Batch:
        """Returns a new batch, for the signatures of one reply."""
        return Batch(self, self._now())

    def stored(self, digest: bytes, now: float) -> Signatures | None:
        """Returns the stored signatures of an RRset, or None if there are none or if it is time to renew them."""
        found = self._store.get(digest)
        if found is None or found.renewal < now:
            return None
        self._store.move_to_end(digest)
        return found

    def sign(self, digest: bytes, rrset: RRset, now: float) -> Signatures:
        """Makes the signatures of an RRset, stores them, and returns them."""
        return self._keep(digest, self._made(rrset, now))

    def sign_later(self, digest: bytes, rrset: RRset, now: float) -> Awaitable[Signatures]:
        """Makes the signatures of an RRset in the thread. Raises Overloaded."""
        found = self._waiting.get(digest)
        if found is None:
            if len(self._waiting) >= MAX_WAITING:
                raise Overloaded
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "dnssec")
            loop = asyncio.get_running_loop()
            found = self._waiting[digest] = loop.run_in_executor(self._pool, self._made, rrset, now)
            found.add_done_callback(lambda done: self._arrived(digest, done))
        return asyncio.shield(found)

    def shrink(self, share: float) -> Iterator[None]:
        """Reduces the store to `share` of its capacity, a little at each step."""
        self._limit = max(1, int(self._capacity * share))
        while len(self._store) > self._limit:
            self._store.popitem(last=False)
            yield

    def stop(self) -> None:
        """Ends the thread after the signatures that wait for it."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def _made(self, rrset: RRset, now: float) -> Signatures:
        start, end = int(now) - BEFORE, int(now) + VALID
        keys = self._ksks if rrset.rtype == Type.DNSKEY else self._zsks
        return Signatures(
            tuple(
                rrsig_rdata(
                    rrset.owner, rrset.rtype, rrset.rclass, ORIGINAL_TTL, rrset.rdatas, key,
                    inception=start, expiration=end, signer=rrset.zone,
                )
                for key in keys
            ),
            end - RENEWAL,
        )  # fmt: skip

    def _arrived(self, digest: bytes, done: asyncio.Future[Signatures]) -> None:
        del self._waiting[digest]
        if not done.cancelled() and done.exception() is None:
            self._keep(digest, done.result())

    def _keep(self, digest: bytes, made: Signatures) -> Signatures:
        if not made.rdatas:
            return made  # without keys
        while len(self._store) >= self._limit:
            self._store.popitem(last=False)
        self._store[digest] = made
        return made


class Batch:
    """The signatures of one reply. `hits` counts RRsets whose signatures were stored, `misses` all others.

    `renewal` is the time until which all signatures are used, in Unix seconds.
    """

    __slots__ = ("_found", "_missing", "_signer", "hits", "misses", "now", "renewal")

    def __init__(self, signer: Signer, now: float) -> None:
        """`now` is the time in Unix seconds."""
        self._signer, self.now = signer, now
        self._found: dict[bytes, Signatures] = {}
        self._missing: dict[bytes, RRset] = {}
        self.hits = self.misses = 0
        self.renewal = now + VALID - RENEWAL

    @property
    def is_complete(self) -> bool:
        """Returns False if a call of `sign` returned no records because the signatures are still to be made."""
        return not self._missing

    def sign(self, records: Sequence[Record], zone: bytes, ttl: int) -> list[Record]:
        """Returns the RRSIG records of an RRset, with the TTL `ttl`.

        Returns no records if the signatures are to be made in the thread.
        """
        first = records[0]
        rdatas = (first.rdata,) if len(records) == 1 else tuple(sorted([record.rdata for record in records]))
        rrset = RRset(first.owner.lower(), first.rtype, first.rclass, rdatas, zone)
        made = self._signatures(rrset)
        if made is None:
            return []
        return [Record(first.owner, Type.RRSIG, ttl, rdata, first.rclass) for rdata in made.rdatas]

    def _signatures(self, rrset: RRset) -> Signatures | None:
        digest = rrset.digest()
        found = self._found.get(digest)
        if found is None:
            found = self._signer.stored(digest, self.now)
            if found is not None:
                self.hits += 1
            else:
                self.misses += 1
                if not self._signer.quick:
                    self._missing[digest] = rrset
                    return None
                found = self._signer.sign(digest, rrset, self.now)
            self._found[digest] = found
            self.renewal = min(self.renewal, found.renewal)
        return found

    async def complete(self) -> None:
        """Waits for the missing signatures. Raises Overloaded.

        After that, `sign` returns the records of the same RRsets.
        """
        waiting = {digest: self._signer.sign_later(digest, one, self.now) for digest, one in self._missing.items()}
        for digest, made in waiting.items():
            self._found[digest] = await made
        self._missing.clear()
