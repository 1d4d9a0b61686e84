"""An ACME server in this process (RFC 8555), in place of `AcmeHttp`."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from svcdns.plugins.tls.acme.http import HttpReply
from svcdns.plugins.tls.options import Acme

URL = "https://acme.test"
PROBLEM = "urn:ietf:params:acme:error:"


def reply(status: int, content: Any = b"", **headers: str) -> HttpReply:
    """Returns a response with a JSON object or octets as its body."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return HttpReply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def problem(kind: str, detail: str = "why", status: int = 400, **headers: str) -> HttpReply:
    """Returns a response that reports an error."""
    return reply(status, {"type": PROBLEM + kind, "detail": detail}, **headers)


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class AcmeDouble:
    """The server. `faults` has responses that replace those of a path, in their order."""

    def __init__(self, *, seconds: float = 3600.0) -> None:
        """Issues certificates that are valid from now on for `seconds` of the clock `now`."""
        self.faults: dict[str, list[HttpReply | Exception]] = {}
        self.requests: list[str] = []
        """The paths of all requests."""
        self.payloads: dict[str, Any] = {}
        """The last payload of each path."""
        self.records: Mapping[str, Sequence[str]] = {}
        """The values of the TXT records, by domain."""
        self.seconds = seconds
        self.now: Callable[[], float] = time.time
        self.issue: Callable[[x509.CertificateSigningRequest], bytes] = self.issued
        self.is_valid: dict[str, bool] = {}
        self.orders = 0
        self.closed = 0
        self._domains: list[str] = []
        self._nonces: set[str] = set()
        self._thumbprint = ""
        self._account: ec.EllipticCurvePublicKey | None = None
        self._certificate = b""

    async def connect(self, _acme: Acme) -> Any:
        """Returns itself."""
        return self

    async def present(self, values: Mapping[str, Sequence[str]]) -> None:
        """Publishes TXT records, as the client of a test."""
        self.records = values

    async def close(self) -> None:
        """Counts the attempts that have closed their connections."""
        self.closed += 1

    async def request(self, method: str, url: str, body: bytes = b"", accept: str = "application/json") -> HttpReply:
        """Handles a request, in the form of `AcmeHttp.request`."""
        assert url.startswith(URL)
        path = urlsplit(url).path
        self.requests.append(path)
        if self.faults.get(path):
            fault = self.faults[path].pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault._replace(headers={"replay-nonce": self._nonce(), **fault.headers})
        if path == "/directory":
            names = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order"}
            return reply(200, {name: f"{URL}/{path}" for name, path in names.items()})
        if path != "/nonce":
            payload = self._verified(url, body)
            if payload is None:
                return problem("badNonce", replay_nonce=self._nonce())
            self.payloads[path] = json.loads(payload) if payload else None
        found = self._answer(path, accept)
        return found._replace(headers={**found.headers, "replay-nonce": self._nonce()})

    def _nonce(self) -> str:
        nonce = f"nonce-{len(self.requests)}"
        self._nonces.add(nonce)
        return nonce

    def _verified(self, url: str, body: bytes) -> bytes | None:
        """Returns the payload of a signed request, or None if the nonce is unknown. Fails if a signature is wrong."""
        outer = json.loads(body)
        protected = json.loads(decode(outer["protected"]))
        assert (protected["alg"], protected["url"]) == ("ES256", url)
        if protected["nonce"] not in self._nonces:
            return None
        self._nonces.remove(protected["nonce"])
        if "jwk" in protected:
            key = protected["jwk"]
            x, y = (int.from_bytes(decode(key[name]), "big") for name in ("x", "y"))
            self._account = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
            text = json.dumps(key, sort_keys=True, separators=(",", ":")).encode()
            self._thumbprint = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).decode().rstrip("=")
        else:
            assert protected["kid"] == f"{URL}/account/1"
        assert self._account is not None
        signature = decode(outer["signature"])
        r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
        signed = f"{outer['protected']}.{outer['payload']}".encode()
        self._account.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
        return decode(outer["payload"])

    def _answer(self, path: str, accept: str) -> HttpReply:
        match path.split("/")[1:]:
            case ["nonce"]:
                return reply(200)
            case ["account"]:
                return reply(201, {"status": "valid"}, location=f"{URL}/account/1")
            case ["order"]:
                self.orders += 1
                self._domains = [one["value"] for one in self.payloads[path]["identifiers"]]
                self.is_valid, self._certificate = {}, b""
                return reply(201, self._order(), location=f"{URL}/order/1")
            case ["order", "1"]:
                return reply(200, self._order())
            case ["authorization", number]:
                return reply(200, self._authorization(int(number)))
            case ["challenge", number]:
                domain = self._domains[int(number)].removeprefix("*.")
                expected = hashlib.sha256(f"token-{number}.{self._thumbprint}".encode()).digest()
                value = base64.urlsafe_b64encode(expected).decode().rstrip("=")
                self.is_valid[number] = value in self.records.get(domain, ())
                return reply(200, {"type": "dns-01", "url": f"{URL}{path}", "status": "processing"})
            case ["finalize"]:
                self._certificate = self.issue(x509.load_der_x509_csr(decode(self.payloads[path]["csr"])))
                return reply(200, self._order())
            case ["certificate"]:
                assert accept == "application/pem-certificate-chain"
                return reply(200, self._certificate)
        return problem("malformed", status=404)

    def _order(self) -> dict[str, Any]:
        ready = len(self.is_valid) == len(self._domains) and all(self.is_valid.values())
        status = "valid" if self._certificate else "ready" if ready else "pending"
        urls = [f"{URL}/authorization/{number}" for number in range(len(self._domains))]
        out = {"status": status, "authorizations": urls, "finalize": f"{URL}/finalize"}
        return {**out, "certificate": f"{URL}/certificate"} if self._certificate else out

    def _authorization(self, number: int) -> dict[str, Any]:
        states = {None: "pending", True: "valid", False: "invalid"}
        status = states[self.is_valid.get(str(number))]
        challenge: dict[str, Any] = {
            "type": "dns-01",
            "url": f"{URL}/challenge/{number}",
            "token": f"token-{number}",
            "status": status,
        }
        if status == "invalid":
            challenge["error"] = {"type": f"{PROBLEM}unauthorized", "detail": "no TXT record\n\x1b[31m found"}
        domain = self._domains[number].removeprefix("*.")
        others = {"type": "http-01", "url": f"{URL}/http", "token": "x", "status": status}
        return {"identifier": {"type": "dns", "value": domain}, "status": status, "challenges": [others, challenge]}

    def issued(self, request: x509.CertificateSigningRequest, domains: Sequence[str] = (), key: Any = None) -> bytes:
        """Returns a certificate for a request. `domains` and `key` replace those of the request."""
        wanted = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = domains or wanted.get_values_for_type(x509.DNSName)
        issuer, now = ec.generate_private_key(ec.SECP256R1()), self.now()
        begin, end = (datetime.fromtimestamp(at, UTC) for at in (min(now, now + self.seconds - 60), now + self.seconds))
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test")]),
            x509.Name([]),
            key or request.public_key(),
            x509.random_serial_number(),
            begin,
            end,
        ).add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True)
        return builder.sign(issuer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
