"""The key files of *sign*."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.sign import gather
from svcdns.plugins.sign.key_files import found, load
from svcdns.plugins.sign.options import ZoneToSign
from svcdns.wire import names
from tests.support import world

KEYS = Path(__file__).parents[2] / "dnssec" / "keys"
CSK = "Kexample.org.+013+41819"
ZSK = "Kexample.org.+013+37031"


def zone(key: str) -> ZoneToSign:
    one: ZoneToSign = world.options("sign", f"sign db example.org {{\n key {key}\n}}").zones[0]
    return one


def test_key_files_by_name() -> None:
    assert found(zone(f"file {KEYS}/{CSK}.key")) == (f"{KEYS}/{CSK}",)


def test_a_folder_with_keys() -> None:
    """ZSKs, and keys of other zones, are left out."""
    assert found(zone(f"directory {KEYS}")) == (f"{KEYS}/{CSK}",)


def test_the_key_gets_the_name_of_the_zone() -> None:
    """As in CoreDNS, one key can sign several zones."""
    assert load(f"{KEYS}/{CSK}", names.from_text("other.test")).name == names.from_text("other.test")


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (f"file {KEYS}/{CSK} /none/K", "open /none/K.key: no such file or directory"),
        (f"file {KEYS}/{ZSK}", f"{KEYS}/{ZSK}.key: the DNSKEY is not a CSK or KSK: its flags are 256"),
        ("directory /none", "open /none: no such file or directory"),
        ("directory {folder}", "no CSK or KSK was found, Kexample.org.+ALGORITHM+TAG.key was expected"),
    ],
)
def test_errors_at_a_start(tmp_path: Path, key: str, error: str) -> None:
    """The error has the position of the word in the Corefile."""
    shutil.copy(KEYS / f"{ZSK}.key", tmp_path)
    shutil.copy(KEYS / f"{ZSK}.private", tmp_path)
    options = world.options("sign", f"sign db example.org {{\n key {key.replace('{folder}', str(tmp_path))}\n}}")
    with pytest.raises(CorefileError) as caught:
        gather(options, {})
    assert str(caught.value).startswith("Corefile:3:")
    assert error in str(caught.value)


def test_gather_keeps_the_state_of_its_zones() -> None:
    one = zone(f"file {KEYS}/{CSK}")
    key = f"{one.signed_file} {one.zone}"
    assert gather(
        world.options("sign", f"sign db example.org {{\n key file {KEYS}/{CSK}\n}}"), {key: b"1", "x": b""}
    ) == {key: b"1"}
