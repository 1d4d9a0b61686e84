"""Zone keys as BIND's `dnssec-keygen` writes them: the files `K<name>+<algorithm>+<tag>.key` and `.private`.

The library `cryptography` makes the signatures. The first use of a key imports the library.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from svcdns.dnssec.errors import KeyFileError
from svcdns.wire import names
from svcdns.wire.errors import NameTextError

ZONE_KEY: Final = 0x0100
SECURE_ENTRY_POINT: Final = 0x0001
DEFAULT_TTL: Final = 3600
MAX_TTL: Final = 2**31 - 1
MAX_OCTETS: Final = 1 << 16
"""The largest size of a key file, in octets."""

_HEAD: Final = struct.Struct("!HBB")
_DIGESTS: Final = {1: "sha1", 2: "sha256", 4: "sha384"}
RSA: Final = {5: "SHA1", 7: "SHA1", 8: "SHA256", 10: "SHA512"}
"""The hash function of each RSA algorithm: RSASHA1, NSEC3RSASHA1 (RFC 5155 §2), RSASHA256 and RSASHA512 (RFC 5702)."""
_ECDSA: Final = {13: ("SECP256R1", "SHA256", 32), 14: ("SECP384R1", "SHA384", 48)}
"""The curve, the hash function and the length of a number in octets, by algorithm (RFC 6605 §4)."""
_ED25519: Final = 15
_WORD: Final = re.compile(r";[^\n]*|[()]|[^\s;()]+")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A zone's key pair. `name` is a wire name in lower case, and `rdata` the RDATA of the DNSKEY record.

    `ttl` is the TTL in the public file, or DEFAULT_TTL. `quick` is True if a signature takes a few tens of
    microseconds, and False if a signature takes a few hundred.
    """

    name: bytes
    algorithm: int
    tag: int
    flags: int
    rdata: bytes
    ttl: int
    quick: bool
    _sign: Callable[[bytes], bytes] = field(repr=False, compare=False)

    @property
    def is_ksk(self) -> bool:
        """Returns True for a zone key with the SEP bit (RFC 4034 §2.1.1)."""
        return self.flags & (ZONE_KEY | SECURE_ENTRY_POINT) == ZONE_KEY | SECURE_ENTRY_POINT

    @property
    def is_zsk(self) -> bool:
        """Returns True for a zone key without the SEP bit (RFC 4034 §2.1.1)."""
        return self.flags & (ZONE_KEY | SECURE_ENTRY_POINT) == ZONE_KEY

    def sign(self, data: bytes) -> bytes:
        """Returns the signature of `data` in the format of the key's algorithm in RRSIG records."""
        return self._sign(data)


def key_paths(base: str | os.PathLike[str]) -> tuple[str, str]:
    """Returns the paths of the public and of the private file. `base` may have the suffix of either file."""
    path = os.fspath(base)
    path = path.removesuffix(".key") if path.endswith(".key") else path.removesuffix(".private")
    return f"{path}.key", f"{path}.private"


def load_key(base: str | os.PathLike[str]) -> SigningKey:
    """Reads the two files of a key pair. Raises KeyFileError."""
    public, private = key_paths(base)
    return parse_key(read_file(public), read_file(private), base)


def read_file(path: str) -> bytes:
    """Returns the content of a key file. Raises KeyFileError."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_OCTETS + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero octet
        raise KeyFileError(f"open {path}: {(getattr(error, 'strerror', None) or str(error)).lower()}") from error
    if len(content) > MAX_OCTETS:
        raise KeyFileError(f"{path} has more than {MAX_OCTETS} octets")
    return content


def parse_key(public: bytes, private: bytes, base: str | os.PathLike[str]) -> SigningKey:
    """Returns the key pair in the contents of two files. Raises KeyFileError, whose text has the paths from `base`."""
    public_path, private_path = key_paths(base)
    line, name, ttl, rdata = _public(public, public_path)
    flags, protocol, algorithm = _HEAD.unpack_from(rdata)
    if protocol != 3:
        raise KeyFileError(f"{public_path}:{line}: the protocol {protocol} was found, 3 was expected (RFC 4034 §2.1.2)")
    fields = _Fields(private, private_path)
    fields.check_algorithm(algorithm)
    try:
        sign, expected = _pair(algorithm, rdata[4:], fields)
    except KeyFileError:
        raise
    except Exception as error:  # the library raises several kinds for numbers that are no key
        raise KeyFileError(
            f"{private_path}: the private key cannot be used: {error or type(error).__name__}"
        ) from error
    if expected != rdata[4:]:
        raise KeyFileError(f"{private_path}: the private key does not belong to the public key in {public_path}")
    return SigningKey(name, algorithm, key_tag(rdata), flags, rdata, ttl, algorithm in (13, _ED25519), sign)


def key_tag(rdata: bytes) -> int:
    """Returns the key tag of a DNSKEY record from its RDATA (RFC 4034 Appendix B)."""
    total = sum(rdata[1::2]) + (sum(rdata[0::2]) << 8)
    return (total + (total >> 16)) & 0xFFFF


def ds_rdata(key: SigningKey, digest_type: int) -> bytes:
    """Returns the RDATA of the DS record for a key (RFC 4034 §5.1.4).

    `digest_type` is 1 for SHA-1, 2 for SHA-256 or 4 for SHA-384. Raises KeyError for other types.
    """
    digest = hashlib.new(_DIGESTS[digest_type], key.name + key.rdata, usedforsecurity=False).digest()
    return _HEAD.pack(key.tag, key.algorithm, digest_type) + digest


def _public(content: bytes, path: str) -> tuple[int, bytes, int, bytes]:
    """Returns the line, the owner name, the TTL and the RDATA of the first record, which must be a DNSKEY record."""
    (owner, *rest), line = _first_record(content.decode("iso-8859-1"), path)
    ttl = DEFAULT_TTL
    while rest and (rest[0].isdecimal() or rest[0].upper() == "IN"):  # the TTL and the class may be left out
        word = rest.pop(0)
        ttl = min(int(word), MAX_TTL) if word.isdecimal() else ttl
    where = f"{path}:{line}"
    if len(rest) < 5 or rest[0].upper() != "DNSKEY":
        raise KeyFileError(f"{where}: no DNSKEY record was found")
    try:
        numbers = [int(word) for word in rest[1:4]]
        key = base64.b64decode("".join(rest[4:]), validate=True)
        rdata = _HEAD.pack(*numbers) + key
        return line, names.from_text(owner).lower(), ttl, rdata
    except (ValueError, binascii.Error, struct.error, NameTextError) as error:
        raise KeyFileError(f"{where}: the DNSKEY record cannot be read: {error}") from error


def _first_record(text: str, path: str) -> tuple[list[str], int]:
    """Returns the words of the first record in zone text, and its line. Comments and parentheses are left out."""
    words: list[str] = []
    first = depth = end = 0
    for found in _WORD.finditer(text):
        word = found[0]
        if word.startswith(";"):
            continue
        if words and not depth and "\n" in text[end : found.start()]:
            break
        end = found.end()
        if word in "()":
            depth += 1 if word == "(" else -1
            continue
        if not words:
            first = text.count("\n", 0, found.start()) + 1
        words.append(word)
    if not words:
        raise KeyFileError(f"{path}: no DNSKEY record was found")
    return words, first


class _Fields:
    """The fields of a private file, such as `PrivateKey`, with their lines. Names of fields are in lower case."""

    def __init__(self, content: bytes, path: str) -> None:
        self.path = path
        self._fields: dict[str, tuple[int, str]] = {}
        for number, line in enumerate(content.decode("iso-8859-1").splitlines(), 1):
            text = line.partition(";")[0].strip()
            if not text:
                continue
            name, colon, value = text.partition(":")
            if not colon:
                raise KeyFileError(f"{path}:{number}: a line without ':' was found, 'Name: value' was expected")
            self._fields[name.strip().lower()] = (number, value.strip())
        number, version = self._field("Private-key-format")
        if version not in ("v1.2", "v1.3"):
            raise KeyFileError(f"{path}:{number}: the format v1.2 or v1.3 was expected")

    def _field(self, name: str) -> tuple[int, str]:
        found = self._fields.get(name.lower())
        if found is None:
            raise KeyFileError(f"{self.path}: the field '{name}' is missing")
        return found

    def check_algorithm(self, algorithm: int) -> None:
        """Raises KeyFileError if the file has a key of another algorithm, or if `algorithm` cannot be used."""
        number, text = self._field("Algorithm")
        if text.partition(" ")[0] != str(algorithm):
            raise KeyFileError(f"{self.path}:{number}: algorithm '{text}' was found, {algorithm} was expected")
        if algorithm not in RSA and algorithm not in _ECDSA and algorithm != _ED25519:
            raise KeyFileError(f"{self.path}:{number}: algorithm '{text}' is not supported")

    def octets(self, name: str) -> bytes:
        """Returns the value of a field in base64. The error text has no part of the value."""
        number, text = self._field(name)
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            raise KeyFileError(f"{self.path}:{number}: the value of '{name}' is not base64") from None

    def number(self, name: str) -> int:
        """Returns the value of a field as a number."""
        return int.from_bytes(self.octets(name), "big")


def _pair(algorithm: int, public: bytes, fields: _Fields) -> tuple[Callable[[bytes], bytes], bytes]:
    """Returns the signing function of a private key, and the public key in the format of DNSKEY records."""
    if algorithm in RSA:
        return _rsa(algorithm, public, fields)
    return _ed25519(fields) if algorithm == _ED25519 else _ecdsa(algorithm, fields)


def _rsa(algorithm: int, public: bytes, fields: _Fields) -> tuple[Callable[[bytes], bytes], bytes]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateNumbers, RSAPublicNumbers

    modulus, exponent = fields.number("Modulus"), fields.number("PublicExponent")
    private = RSAPrivateNumbers(
        p=fields.number("Prime1"),
        q=fields.number("Prime2"),
        d=fields.number("PrivateExponent"),
        dmp1=fields.number("Exponent1"),
        dmq1=fields.number("Exponent2"),
        iqmp=fields.number("Coefficient"),
        public_numbers=RSAPublicNumbers(exponent, modulus),
    ).private_key(unsafe_skip_rsa_key_validation=True)
    digest: hashes.HashAlgorithm = getattr(hashes, RSA[algorithm])()
    scheme = padding.PKCS1v15()
    # The library's check of the key takes 100 ms. Verifying a signature shows the same.
    private.public_key().verify(private.sign(b"", scheme, digest), b"", scheme, digest)
    shown = exponent.to_bytes((exponent.bit_length() + 7) // 8, "big")
    head = (
        bytes((len(shown),)) if len(shown) < 256 and public[:1] != b"\x00" else b"\x00" + struct.pack("!H", len(shown))
    )
    return lambda data: private.sign(data, scheme, digest), head + shown + modulus.to_bytes(
        (modulus.bit_length() + 7) // 8, "big"
    )


def _ecdsa(algorithm: int, fields: _Fields) -> tuple[Callable[[bytes], bytes], bytes]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    curve, digest, size = _ECDSA[algorithm]
    private = ec.derive_private_key(fields.number("PrivateKey"), getattr(ec, curve)())
    scheme = ec.ECDSA(getattr(hashes, digest)())
    point = private.public_key().public_numbers()

    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(data, scheme))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    return sign, point.x.to_bytes(size, "big") + point.y.to_bytes(size, "big")


def _ed25519(fields: _Fields) -> tuple[Callable[[bytes], bytes], bytes]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(fields.octets("PrivateKey"))
    return private.sign, private.public_key().public_bytes_raw()
