"""Control reads the key files of *dnssec*."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.dnssec import gather
from svcdns.plugins.dnssec.key_files import decode
from tests.support import world
from tests.support.zone_keys import KSK, ZSK


def gathered(text: str) -> dict[str, bytes]:
    return gather(world.options("dnssec", text), {})


def test_the_data_have_the_keys() -> None:
    found = gathered(f"dnssec example.org {{\n key file {KSK}.key {ZSK}.private\n}}")
    assert [decode(payload).tag for payload in found.values()] == [41819, 37031]
    assert list(found) == [KSK, ZSK]


def test_a_key_may_sign_zones_below_its_name() -> None:
    text = "dnssec {} {{\n key file " + ZSK + "\n}}"
    assert len(gathered(text.format("other.test sub.example.org"))) == 1
    with pytest.raises(CorefileError) as caught:
        gathered(text.format("other.test org"))
    assert str(caught.value) == (
        "Corefile:3:11 - Error during parsing: plugin/dnssec: "
        "key example.org. (keyid: 37031) can not sign any of the zones"
    )


def test_errors_have_the_position_of_the_word(tmp_path: Path) -> None:
    text = f"dnssec example.org {{\n key file {ZSK} {tmp_path}/Ka\n}}"
    with pytest.raises(CorefileError) as caught:
        gathered(text)
    column = len(f" key file {ZSK} ") + 1
    where = f"Corefile:3:{column} - Error during parsing: plugin/dnssec:"
    assert str(caught.value) == f"{where} open {tmp_path}/Ka.key: no such file or directory"
    shutil.copy(f"{ZSK}.key", tmp_path / "Ka.key")
    (tmp_path / "Ka.private").write_text("Private-key-format: v1.3\nAlgorithm: 8 (RSASHA256)\n")
    with pytest.raises(CorefileError) as caught:
        gathered(text)
    expected = f"{where} {tmp_path}/Ka.private:2: algorithm '8 (RSASHA256)' was found, 13 was expected"
    assert str(caught.value) == expected
