"""The JSON objects of ACME servers (RFC 8555 §7.1), as far as this client uses them."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from svcdns.plugins.tls.acme.errors import AcmeError, printable

T = TypeVar("T")


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """Information about the server."""

    external_account_required: bool = False


class Directory(msgspec.Struct, frozen=True, rename="camel"):
    """The URLs of the server's functions."""

    new_nonce: str
    new_account: str
    new_order: str
    meta: Meta = Meta()


class Problem(msgspec.Struct, frozen=True):
    """Why a request or a validation failed (RFC 7807)."""

    type: str = ""
    detail: str = ""
    subproblems: tuple[Problem, ...] = ()

    @property
    def text(self) -> str:
        """Returns the problem for a log line."""
        details = [one.detail for one in self.subproblems[:5] if one.detail]
        words = " ".join([self.type.removeprefix("urn:ietf:params:acme:error:"), self.detail, *details])
        return printable(words.strip() or "no reason was given")


class Identifier(msgspec.Struct, frozen=True):
    """A domain."""

    type: str
    value: str


class Order(msgspec.Struct, frozen=True):
    """An order of a certificate."""

    status: str
    finalize: str
    authorizations: tuple[str, ...] = ()
    certificate: str = ""
    error: Problem | None = None


class Challenge(msgspec.Struct, frozen=True):
    """One way to prove that the client controls a domain."""

    type: str
    url: str
    status: str = ""
    token: str = ""
    error: Problem | None = None


class Authorization(msgspec.Struct, frozen=True):
    """The state of the proofs for one domain."""

    identifier: Identifier
    status: str
    challenges: tuple[Challenge, ...] = ()


def decoded(body: bytes, kind: type[T]) -> T:
    """Returns the JSON object in a body. Raises AcmeError."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise AcmeError(f"the server sent no valid {kind.__name__.lower()}: {printable(str(error))}") from None
