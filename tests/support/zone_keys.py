"""Zone keys that BIND's `dnssec-keygen` made for `example.org.`, and the data that workers get for them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import dns.dnssec
import dns.name
import dns.node
import dns.rdata
import dns.rdataset
import dns.rrset
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType

from svcdns.dnssec.keys import SigningKey, load_key
from svcdns.plugin_api.environment import Environment
from svcdns.plugins.dnssec import Dnssec, gather
from svcdns.wire import names
from svcdns.wire.record import Record
from tests.support import world

KEYS: Final = Path(__file__).parents[1] / "dnssec" / "keys"
ZSK: Final = str(KEYS / "Kexample.org.+013+37031")
KSK: Final = str(KEYS / "Kexample.org.+013+41819")
RSA: Final = str(KEYS / "Kexample.org.+008+21106")
ED25519: Final = str(KEYS / "Kexample.org.+015+16348")


def plugin(*lines: str, zones: str = "example.org") -> Dnssec:
    """Returns the plugin with the lines of its body, and with the data that control reads for it."""
    options = world.options("dnssec", "\n".join((f"dnssec {zones} {{", *lines, "}")))
    return Dnssec(options, with_data(gather(options, {})))


def with_data(data: dict[str, bytes]) -> Environment:
    """Returns an environment with data of the plugin."""
    return world.environment(data=lambda _plugin, key: data.get(key))


def validate(records: tuple[Record, ...], key: str, zone: str = "example.org.", now: float | None = None) -> None:
    """Validates each RRset of a section with dnspython. Raises its exception for an invalid or missing signature."""
    public = dns_record(load_key(key))
    keys: dict[dns.name.Name, dns.node.Node | dns.rdataset.Rdataset] = {
        dns.name.from_text(zone): dns.rrset.from_rdata(zone, 3600, public)
    }
    for owner, rtype in {(record.owner, record.rtype) for record in records if record.rtype != 46}:
        rrset = dns.rrset.from_rdata_list(
            names.to_text(owner), 3600, [_rdata(r) for r in records if (r.owner, r.rtype) == (owner, rtype)]
        )
        made = [
            r for r in records if r.owner == owner and r.rtype == 46 and int.from_bytes(r.rdata[:2], "big") == rtype
        ]
        assert made, f"no signature for {names.to_text(owner)} {rtype}"
        signatures = dns.rrset.from_rdata_list(names.to_text(owner), 3600, [_rdata(r) for r in made])
        dns.dnssec.validate(rrset, signatures, keys, now=now)


def dns_record(key: SigningKey) -> dns.rdata.Rdata:
    """Returns the DNSKEY record of a key as dnspython has it."""
    return dns.rdata.from_wire("IN", "DNSKEY", key.rdata, 0, len(key.rdata))


def _rdata(record: Record) -> dns.rdata.Rdata:
    rclass, rtype = RdataClass.make(record.rclass), RdataType.make(record.rtype)
    return dns.rdata.from_wire(rclass, rtype, record.rdata, 0, len(record.rdata))
