"""A client for ACME servers (RFC 8555) that obtains one certificate with DNS-01 challenges.

The client follows the steps of RFC 8555 §7.1: account, order, authorizations, finalization, certificate. Rules:

1. All waiting is bounded: each request by `acme.http`, polling by MAX_POLLS.
2. A request is repeated only after the error badNonce, with the nonce of that response (RFC 8555 §6.5).
3. Nothing that the server sends is trusted before it was checked.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from svcdns.plugins.tls.acme.account_key import AccountKey, encode
from svcdns.plugins.tls.acme.certificate import CertificateRequest
from svcdns.plugins.tls.acme.errors import AcmeError, printable
from svcdns.plugins.tls.acme.http import AcmeHttp, HttpReply
from svcdns.plugins.tls.acme.messages import Authorization, Challenge, Directory, Order, Problem, decoded
from svcdns.tls.material import Material

T = TypeVar("T")
Present = Callable[[Mapping[str, Sequence[str]]], Awaitable[None]]
"""Serves the values of challenges, by domain, as TXT records."""

MAX_NONCES: Final = 10
"""How often a request is sent if the server refuses its nonce."""
MAX_POLLS: Final = 100
"""How often the state of an order or of an authorization is read."""
POLL: Final = 2.0
"""The seconds between two reads of a state, unless the server states another time."""
LONGEST_POLL: Final = 30.0
LONGEST_RETRY: Final = 86400.0
"""The most seconds that a server may set before the next attempt."""
BAD_NONCE: Final = "urn:ietf:params:acme:error:badNonce"
RATE_LIMITED: Final = "urn:ietf:params:acme:error:rateLimited"
RATE_LIMIT_DELAY: Final = 3600.0
"""The seconds before the next attempt after the error rateLimited, if the server states no time."""
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{1,512}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,512}")


class AcmeClient:
    """One attempt to obtain a certificate."""

    def __init__(
        self,
        http: AcmeHttp,
        key: AccountKey,
        directory: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`directory` is the URL of the server's directory. `sleep` waits between two reads of a state."""
        self._http, self._key, self._url, self._sleep = http, key, directory, sleep
        self._directory = Directory("", "", "")
        self._nonce = self._account = ""

    async def obtain(self, domains: Sequence[str], email: str, present: Present) -> Material:
        """Returns a new certificate for `domains`. `present` serves the values of challenges. Raises AcmeError."""
        await self._open(email)
        reply = await self._post(
            self._directory.new_order, {"identifiers": [{"type": "dns", "value": domain} for domain in domains]}
        )
        url, order = _location(reply), decoded(reply.body, Order)
        await self._authorize(domains, order, present)
        request = CertificateRequest(domains)
        order = await self._until(url, Order, ("pending",))
        if order.status == "ready":
            reply = await self._post(order.finalize, {"csr": encode(request.der)})
            order = await self._until(url, Order, ("pending", "ready", "processing"), decoded(reply.body, Order))
        if order.status != "valid" or not order.certificate:
            reason = f": {order.error.text}" if order.error else ""
            raise AcmeError(f"the order is {printable(order.status)}{reason}")
        reply = await self._post(order.certificate, None, accept="application/pem-certificate-chain")
        return request.accept(reply.body)

    async def _open(self, email: str) -> None:
        """Reads the directory, and creates the account, unless the server has it already (RFC 8555 §7.3)."""
        reply = await self._http.request("GET", self._url)
        _check(reply)
        self._directory = decoded(reply.body, Directory)
        if self._directory.meta.external_account_required:
            raise AcmeError("the server requires an external account, which is not supported")
        contact = {"contact": [f"mailto:{email}"]} if email else {}
        reply = await self._post(self._directory.new_account, {"termsOfServiceAgreed": True, **contact})
        self._account = _location(reply)

    # -- challenges

    async def _authorize(self, domains: Sequence[str], order: Order, present: Present) -> None:
        """Proves that this server answers for all domains of the order."""
        if len(order.authorizations) > len(domains):
            raise AcmeError("the server sent more authorizations than domains")
        names = {domain.removeprefix("*.") for domain in domains}
        values: dict[str, list[str]] = {}
        waiting: dict[str, Challenge] = {}
        for url in order.authorizations:
            authorization = decoded((await self._post(url, None)).body, Authorization)
            if authorization.status == "valid":
                continue
            domain = authorization.identifier.value.lower().rstrip(".")
            if authorization.status != "pending" or domain not in names:
                raise AcmeError(f"the authorization for {printable(domain)} is {printable(authorization.status)}")
            challenge = next((one for one in authorization.challenges if one.type == "dns-01"), None)
            if challenge is None or not _TOKEN.fullmatch(challenge.token):
                raise AcmeError(f"the server offers no dns-01 challenge for {domain}")
            values.setdefault(domain, []).append(self._key.challenge_value(challenge.token))
            waiting[url] = challenge
        if not waiting:
            return
        await present(values)
        for challenge in waiting.values():
            await self._post(challenge.url, {})
        for url in waiting:
            _check_validity(await self._until(url, Authorization, ("pending", "processing")))

    # -- requests

    async def _until(self, url: str, kind: type[T], waiting: Sequence[str], found: T | None = None) -> T:
        """Reads a resource until its status is not in `waiting`. Raises AcmeError after MAX_POLLS reads.

        `found` is the present state of the resource, if it is known.
        """
        pause = POLL
        for number in range(MAX_POLLS):
            if number or found is None:
                reply = await self._post(url, None)
                found, pause = decoded(reply.body, kind), min(LONGEST_POLL, _retry_after(reply) or POLL)
            if getattr(found, "status", "") not in waiting:
                return found
            await self._sleep(pause)
        raise AcmeError(f"the {kind.__name__.lower()} is still {waiting[0]}")

    async def _post(self, url: str, payload: dict[str, Any] | None, accept: str = "application/json") -> HttpReply:
        for _ in range(MAX_NONCES):
            nonce, self._nonce = self._nonce or await self._new_nonce(), ""
            reply = await self._http.request("POST", url, self._key.sign(url, nonce, payload, self._account), accept)
            self._nonce = _nonce(reply)
            if reply.status != 400 or _problem(reply).type != BAD_NONCE:
                _check(reply)
                return reply
        raise AcmeError("the server refuses its own nonces")

    async def _new_nonce(self) -> str:
        nonce = _nonce(await self._http.request("HEAD", self._directory.new_nonce))
        if not nonce:
            raise AcmeError("the server sends no nonces")
        return nonce


def _nonce(reply: HttpReply) -> str:
    """Returns the nonce for the next request; empty if the response has none that can be used (RFC 8555 §6.5.1)."""
    nonce = reply.headers.get("replay-nonce", "")
    return nonce if _NONCE.fullmatch(nonce) else ""


def _location(reply: HttpReply) -> str:
    location = reply.headers.get("location", "")
    if not location:
        raise AcmeError("the server sent no URL for a new resource")
    return location


def _retry_after(reply: HttpReply) -> float:
    """Returns the seconds in the field Retry-After; 0 if there are none, or if the field has a date."""
    text = reply.headers.get("retry-after", "")
    return float(text) if text.isdecimal() and len(text) < 10 else 0.0


def _problem(reply: HttpReply) -> Problem:
    try:
        return decoded(reply.body, Problem)
    except AcmeError:
        return Problem()


def _check(reply: HttpReply) -> None:
    """Raises AcmeError if a response reports an error."""
    if 200 <= reply.status < 300:
        return
    problem, retry = _problem(reply), min(LONGEST_RETRY, _retry_after(reply))
    if problem.type == RATE_LIMITED and not retry:
        retry = RATE_LIMIT_DELAY
    raise AcmeError(f"the server replied {reply.status}: {problem.text}", retry)


def _check_validity(authorization: Authorization) -> None:
    if authorization.status == "valid":
        return
    reason = next((f": {one.error.text}" for one in authorization.challenges if one.error), "")
    domain = printable(authorization.identifier.value)
    raise AcmeError(f"the authorization for {domain} is {printable(authorization.status)}{reason}")
