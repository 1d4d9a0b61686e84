"""The numbers of the DNS and their mnemonics.

The numbers are types, classes, rcodes, EDNS options, extended errors, opcodes and header bits. Numbers without a
mnemonic here are printed as in RFC 3597 §5 (`TYPE65280`). Sources: the IANA DNS parameters registry, RFC 1035 §3.2 and
§4.1.1, RFC 6895.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final


class Numbers(type):
    """The metaclass of classes that give names to numbers, such as `Type`.

    These classes are used like an `IntEnum`, but each value is a plain `int`, which is faster.
    """

    __members__: Mapping[str, int]

    def __init__(cls, name: str, bases: tuple[type, ...], fields: dict[str, Any]) -> None:
        super().__init__(name, bases, fields)
        cls.__members__ = MappingProxyType({key: value for key, value in fields.items() if isinstance(value, int)})

    def __getitem__(cls, name: str) -> int:
        """Returns the number with this name. Raises KeyError."""
        return cls.__members__[name]

    def __iter__(cls) -> Iterator[int]:
        """Iterates over the numbers in the order in which the class defines them."""
        return iter(cls.__members__.values())


class Type(metaclass=Numbers):
    """Types of records and of queries (TYPE and QTYPE)."""

    A = 1
    NS = 2
    MD = 3
    MF = 4
    CNAME = 5
    SOA = 6
    MB = 7
    MG = 8
    MR = 9
    NULL = 10
    WKS = 11
    PTR = 12
    HINFO = 13
    MINFO = 14
    MX = 15
    TXT = 16
    RP = 17
    AFSDB = 18
    X25 = 19
    ISDN = 20
    RT = 21
    NSAP = 22
    NSAP_PTR = 23
    SIG = 24
    KEY = 25
    PX = 26
    GPOS = 27
    AAAA = 28
    LOC = 29
    NXT = 30
    EID = 31
    NIMLOC = 32
    SRV = 33
    ATMA = 34
    NAPTR = 35
    KX = 36
    CERT = 37
    DNAME = 39
    OPT = 41
    APL = 42
    DS = 43
    SSHFP = 44
    IPSECKEY = 45
    RRSIG = 46
    NSEC = 47
    DNSKEY = 48
    DHCID = 49
    NSEC3 = 50
    NSEC3PARAM = 51
    TLSA = 52
    SMIMEA = 53
    HIP = 55
    NINFO = 56
    RKEY = 57
    TALINK = 58
    CDS = 59
    CDNSKEY = 60
    OPENPGPKEY = 61
    CSYNC = 62
    ZONEMD = 63
    SVCB = 64
    HTTPS = 65
    DSYNC = 66
    HHIT = 67
    BRID = 68
    SPF = 99
    UINFO = 100
    UID = 101
    GID = 102
    UNSPEC = 103
    NID = 104
    L32 = 105
    L64 = 106
    LP = 107
    EUI48 = 108
    EUI64 = 109
    NXNAME = 128
    TKEY = 249
    TSIG = 250
    IXFR = 251
    AXFR = 252
    MAILB = 253
    MAILA = 254
    ANY = 255
    URI = 256
    CAA = 257
    AVC = 258
    AMTRELAY = 260
    RESINFO = 261
    WALLET = 262
    TA = 32768
    DLV = 32769


class Class(metaclass=Numbers):
    """Classes of records and of queries (CLASS and QCLASS)."""

    IN = 1
    CS = 2
    CH = 3
    HS = 4
    NONE = 254
    ANY = 255


class Rcode(metaclass=Numbers):
    """Response codes, also those that need EDNS (RFC 6891 §6.1.3)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    YXRRSET = 7
    NXRRSET = 8
    NOTAUTH = 9
    NOTZONE = 10
    DSOTYPENI = 11
    BADVERS = 16
    BADKEY = 17
    BADTIME = 18
    BADMODE = 19
    BADNAME = 20
    BADALG = 21
    BADTRUNC = 22
    BADCOOKIE = 23


class OptionCode(metaclass=Numbers):
    """EDNS option codes (RFC 6891 §6.1.2), each with the RFC that defines the option."""

    LONG_LIVED_QUERY = 1
    """Defined in RFC 8764."""
    UPDATE_LEASE = 2
    """Defined in RFC 9664."""
    NSID = 3
    """Defined in RFC 5001."""
    CLIENT_SUBNET = 8
    """Defined in RFC 7871."""
    EXPIRE = 9
    """Defined in RFC 7314."""
    COOKIE = 10
    """Defined in RFC 7873."""
    TCP_KEEPALIVE = 11
    """Defined in RFC 7828."""
    PADDING = 12
    """Defined in RFC 7830."""
    EXTENDED_ERROR = 15
    """Defined in RFC 8914."""


class ExtendedError(metaclass=Numbers):
    """The INFO-CODE of an extended DNS error (RFC 8914 §4)."""

    STALE_ANSWER = 3
    NOT_READY = 14
    BLOCKED = 15
    FILTERED = 17
    STALE_NXDOMAIN_ANSWER = 19
    NO_REACHABLE_AUTHORITY = 22
    NETWORK_ERROR = 23


class Opcode(metaclass=Numbers):
    """The kind of a query (RFC 1035 §4.1.1, RFC 6895 §2.2)."""

    QUERY = 0
    IQUERY = 1
    STATUS = 2
    NOTIFY = 4
    UPDATE = 5


QR: Final = 0x8000
AA: Final = 0x0400
TC: Final = 0x0200
RD: Final = 0x0100
RA: Final = 0x0080
Z: Final = 0x0040
AD: Final = 0x0020
CD: Final = 0x0010
OPCODE_MASK: Final = 0x7800

_TYPES: Final = {number: name.replace("_", "-") for name, number in Type.__members__.items()}
_CLASSES: Final = {number: name for name, number in Class.__members__.items()}
_RCODES: Final = {number: name for name, number in Rcode.__members__.items()}


def type_text(number: int) -> str:
    """Returns the mnemonic of a type, or `TYPE<n>` if there is none (RFC 3597 §5)."""
    return _TYPES.get(number) or f"TYPE{number}"


def class_text(number: int) -> str:
    """Returns the mnemonic of a class, or `CLASS<n>` if there is none (RFC 3597 §5)."""
    return _CLASSES.get(number) or f"CLASS{number}"


def rcode_text(number: int) -> str:
    """Returns the mnemonic of a response code, or the number as text if there is none."""
    return _RCODES.get(number) or str(number)


def rcode_label(number: int) -> str:
    """Returns the label of a response code in metrics: its mnemonic, or `other` if there is none."""
    return _RCODES.get(number, "other")
