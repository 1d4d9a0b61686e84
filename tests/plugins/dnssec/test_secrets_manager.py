"""Keys from AWS Secrets Manager, with a double of the AWS library.

tests/integration/test_dnssec.py uses the library.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.dnssec import gather
from svcdns.plugins.dnssec.key_files import decode
from svcdns.plugins.dnssec.secrets_manager import MISSING
from tests.support import world
from tests.support.zone_keys import ZSK

TEXT = json.dumps({name: Path(f"{ZSK}.{name}").read_text() for name in ("key", "private")})
PLACE = "Corefile:3:25 - Error during parsing: plugin/dnssec: "


class LibraryError(Exception):
    """Stands for the errors of the AWS library."""


class Library:
    """The parts of the AWS library that are used. `found` is the reply to the request for a secret."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, found: dict[str, Any] | Exception) -> None:
        self.found, self.variables, self.asked = found, dict[str, str](), list[Any]()
        modules: dict[str, dict[str, Any]] = {
            "botocore": {"__spec__": SimpleNamespace()},
            "botocore.session": {"Session": lambda: self},
            "botocore.config": {"Config": dict},
            "botocore.exceptions": {"BotoCoreError": LibraryError, "ClientError": LibraryError},
        }
        for name, values in modules.items():
            module = ModuleType(name)
            vars(module).update(values)
            monkeypatch.setitem(sys.modules, name, module)
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)
        for logger in ("botocore", "urllib3"):
            monkeypatch.setattr(logging.getLogger(logger), "level", logging.NOTSET)

    def set_config_variable(self, name: str, value: str) -> None:
        self.variables[name] = value

    def get_credentials(self) -> Any:
        frozen = SimpleNamespace(access_key="AKIAEXAMPLE", secret_key="secret-of-aws", token=None)
        return SimpleNamespace(get_frozen_credentials=lambda: frozen)

    def create_client(self, name: str, **_: Any) -> Library:
        self.asked.append(name)
        return self

    def get_secret_value(self, **fields: Any) -> dict[str, Any]:
        self.asked.append(fields)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def gathered() -> dict[str, bytes]:
    return gather(world.options("dnssec", "dnssec example.org {\n key aws_secretsmanager Kone\n}"), {})


def failure() -> str:
    with pytest.raises(CorefileError) as caught:
        gathered()
    return str(caught.value)


def test_a_secret_has_both_files(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(monkeypatch, {"SecretString": TEXT})
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    (payload,) = gathered().values()
    assert decode(payload).tag == 37031
    assert library.asked == ["secretsmanager", {"SecretId": "Kone"}]
    assert library.variables == {"region": "eu-west-1"}
    assert not logging.getLogger("botocore").isEnabledFor(logging.CRITICAL)


def test_an_error_of_the_library_has_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    Library(monkeypatch, LibraryError("no such secret for AKIAEXAMPLE with secret-of-aws"))
    text = failure()
    assert text.startswith(f"{PLACE}Kone: no such secret for ")
    assert "secret-of-aws" not in text


@pytest.mark.parametrize("text", ["", "{", '{"key": "sekret"}', '["sekret"]'])
def test_another_text_is_an_error(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    Library(monkeypatch, {"SecretString": text})
    assert failure() == f"{PLACE}Kone: a JSON object with the texts 'key' and 'private' was expected"


def test_a_wrong_key_in_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    Library(monkeypatch, {"SecretString": TEXT.replace("DNSKEY", "DNSKEX")})
    assert failure() == f"{PLACE}Kone.key:5: no DNSKEY record was found"


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svcdns.plugins.dnssec.secrets_manager.find_spec", lambda _: None)
    assert failure() == f"{PLACE}{MISSING}"
