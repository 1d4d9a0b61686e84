"""Files with TSIG keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.tsig import gather, period, refresh
from svcdns.plugins.tsig.key_file import keys
from svcdns.wire.names import from_text
from tests.support import world

FILE = b"""
key "example." {
    algorithm hmac-sha256;
    secret "QUFBQQ==";
};
key other. {
  secret QkJCQg==;
}
"""


def test_the_form_of_named_conf() -> None:
    assert keys(FILE, "keys") == {from_text("example"): b"AAAA", from_text("other"): b"BBBB"}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"options {", "keys:1:1 - Error during parsing: 'options' was found, 'key NAME {' was expected"),
        (b"key {", "keys:1:1 - Error during parsing: 'key' was found"),
        (b"\nkey a {\n algorithm x;\n};", "keys:4:1 - Error during parsing: '};' was found"),
        (b"key a {\n secret QQ==;\n};\nkey A. {\n", "keys:4:1 - Error during parsing: the key is defined twice"),
        (b"key a {\n", "keys:1:1 - Error during parsing: the last key has no secret"),
        (b"key a {\n secret \"\";\n};", "keys:2:1 - Error during parsing: 'secret' was found"),
        (b"key a..b {\n", "keys:1:1 - Error during parsing: 'a..b' is not the name of a key"),
    ],
)  # fmt: skip
def test_errors_name_the_line(content: bytes, error: str) -> None:
    with pytest.raises(CorefileError) as caught:
        keys(content, "keys")
    assert error in str(caught.value)


def test_control_reads_the_files(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(FILE)
    options = world.options("tsig", f"tsig {{\n secrets {path}\n secret third QQ==\n}}")
    assert gather(options, {}) == refresh(options, {}) == {str(path): FILE}
    assert period(options) == 10
    assert period(world.options("tsig", "tsig")) == 0


@pytest.mark.parametrize(
    ("option", "error"),
    [("secrets {dir}/none", "No such file"), ("secrets {dir}/keys\n secret other QQ==", "a key is defined twice")],
)
def test_files_that_cannot_be_used(tmp_path: Path, option: str, error: str) -> None:
    (tmp_path / "keys").write_bytes(FILE)
    options = world.options("tsig", f"tsig {{\n {option.replace('{dir}', str(tmp_path))}\n}}")
    with pytest.raises(CorefileError, match=error):
        gather(options, {})
