"""Zone keys made by BIND's dnssec-keygen, and the examples of the RFCs."""

from __future__ import annotations

import shutil
from pathlib import Path

import dns.dnssec
import dns.rdata
import pytest
from dns.rdtypes.ANY.DNSKEY import DNSKEY

from svcdns.dnssec.errors import KeyFileError
from svcdns.dnssec.keys import SigningKey, ds_rdata, load_key, parse_key
from svcdns.wire import names

KEYS = Path(__file__).parent / "keys"
ED25519 = b"example.com. 3600 IN DNSKEY 257 3 15 (\n l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4= )"
ED25519_PRIVATE = (
    b"Private-key-format: v1.2\nAlgorithm: 15 (ED25519)\nPrivateKey: ODIyNjAzODQ2MjgwODAxMjI2NDUxOTAyMDQxNDIyNjI=\n"
)
P256 = b"""example.net. 3600 IN DNSKEY 257 3 13 (
    GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edb
    krSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA== )"""
P256_PRIVATE = b"Private-key-format: v1.2\nAlgorithm: 13 (ECDSAP256SHA256)\nPrivateKey: GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=\n"


def ed25519() -> SigningKey:
    """The first key of RFC 8080 §6.1."""
    return parse_key(ED25519, ED25519_PRIVATE, "Kone")


@pytest.mark.parametrize("path", sorted(KEYS.glob("*.key")), ids=lambda path: path.stem)
def test_a_pair_of_bind_is_read(path: Path) -> None:
    """Name, algorithm and key tag are those in the file name."""
    key = load_key(path.with_suffix(""))
    name, algorithm, tag = path.stem[1:].split("+")
    assert (names.to_text(key.name), key.algorithm, key.tag) == (name, int(algorithm), int(tag))
    assert (key.is_ksk, key.is_zsk) == (tag == "41819", tag != "41819")
    made = dns.rdata.from_wire("IN", "DNSKEY", key.rdata, 0, len(key.rdata))
    assert isinstance(made, DNSKEY)
    assert dns.dnssec.key_id(made) == key.tag
    assert dns.dnssec.make_ds(name, made, "SHA256").to_digestable() == ds_rdata(key, 2)


@pytest.mark.parametrize("suffix", ["", ".key", ".private"])
def test_the_base_may_have_the_suffix_of_either_file(suffix: str) -> None:
    assert load_key(f"{KEYS}/Kexample.org.+013+37031{suffix}").tag == 37031


def test_ds_records_of_the_rfcs() -> None:
    assert ds_rdata(ed25519(), 2).hex() == ("0e1d0f023aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b")
    assert ds_rdata(parse_key(P256, P256_PRIVATE, "Ktwo"), 2).hex() == (
        "d9600d02b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17"
    )


def test_no_text_of_a_key_has_its_secret() -> None:
    shown = repr(ed25519())
    assert not any(text in shown for text in ("_sign", "ODIyNjAz", "8226038462808"))


PRIVATE_LINES = ED25519_PRIVATE.splitlines()


@pytest.mark.parametrize(
    ("public", "private", "text"),
    [
        (b"; a comment\n", ED25519_PRIVATE, "Kx.key: no DNSKEY record was found"),
        (b";\nexample. IN A 192.0.2.1\n", ED25519_PRIVATE, "Kx.key:2: no DNSKEY record was found"),
        (ED25519.replace(b"A4=", b"A4"), ED25519_PRIVATE, "Kx.key:1: the DNSKEY record cannot be read: "),
        (ED25519.replace(b"257", b"99999"), ED25519_PRIVATE, "Kx.key:1: the DNSKEY record cannot be read: "),
        (ED25519.replace(b" 3 15", b" 2 15"), ED25519_PRIVATE, "Kx.key:1: the protocol 2 was found, 3 was expected"),
        (ED25519, b"", "Kx.private: the field 'Private-key-format' is missing"),
        (ED25519, ED25519_PRIVATE.replace(b"v1.2", b"v2"), "Kx.private:1: the format v1.2 or v1.3 was expected"),
        (ED25519, ED25519_PRIVATE + b"what\n", "Kx.private:4: a line without ':' was found"),
        (ED25519, P256_PRIVATE, "Kx.private:2: algorithm '13 (ECDSAP256SHA256)' was found, 15 was expected"),
        (
            ED25519.replace(b" 3 15", b" 3 16"),
            ED25519_PRIVATE.replace(b": 15 (", b": 16 ("),
            "Kx.private:2: algorithm '16 (ED25519)' is not supported",
        ),
        (ED25519, b"\n".join(PRIVATE_LINES[:2]), "Kx.private: the field 'PrivateKey' is missing"),
        (ED25519, ED25519_PRIVATE.replace(b"NjI=", b"Nj!="), "Kx.private:3: the value of 'PrivateKey' is not base64"),
        (ED25519, ED25519_PRIVATE.replace(b"ODIy", b""), "Kx.private: the private key cannot be used: "),
        pytest.param(
            ED25519,
            ED25519_PRIVATE.replace(b"ODIy", b"ODIz"),
            "Kx.private: the private key does not belong to the public key in Kx.key",
            id="the other key",
        ),
    ],
)
def test_errors_name_file_and_line_and_not_the_secret(public: bytes, private: bytes, text: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        parse_key(public, private, "Kx")
    assert str(caught.value).startswith(text)
    assert "NjAzODQ2" not in str(caught.value)


def test_a_missing_file_and_a_file_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"^open .*/Kx\.key: no such file or directory$"):
        load_key(tmp_path / "Kx")
    (tmp_path / "Kx.key").write_bytes(bytes(70000))
    with pytest.raises(KeyFileError, match=r"Kx\.key has more than 65536 octets"):
        load_key(tmp_path / "Kx")


def test_a_key_file_without_class_and_ttl(tmp_path: Path) -> None:
    shutil.copy(KEYS / "Kexample.org.+013+37031.private", tmp_path / "K.private")
    text = (KEYS / "Kexample.org.+013+37031.key").read_text()
    (tmp_path / "K.key").write_text(text.replace(" IN ", " "))
    assert load_key(tmp_path / "K") == load_key(KEYS / "Kexample.org.+013+37031")


def test_a_damaged_rsa_key() -> None:
    """The library does not notice the damage, and nobody could verify the signatures."""
    base = KEYS / "Kexample.org.+008+21106"
    public, private = (base.with_name(f"{base.name}.{suffix}").read_bytes() for suffix in ("key", "private"))
    lines = [line.replace(b"a", b"b") if line.startswith(b"Prime2") else line for line in private.splitlines()]
    with pytest.raises(KeyFileError, match=r"Kx\.private: the private key cannot be used: "):
        parse_key(public, b"\n".join(lines), "Kx")
