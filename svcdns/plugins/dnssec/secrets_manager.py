"""Reads keys from AWS Secrets Manager, in a thread of the control process.

A secret is a JSON object with the texts of the two files of a key: `key` and `private`.
"""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from typing import Final

import msgspec

from svcdns.dnssec.errors import KeyFileError
from svcdns.errors import UNDECODABLE
from svcdns.zones.hosted_zone_refresh import Redactor

CONNECT_TIMEOUT: Final = 5
READ_TIMEOUT: Final = 10
"""Seconds to wait for a connection and for a reply. The library makes at most three attempts."""
MISSING: Final = (
    "the Python package 'botocore' is missing: install svcdns[route53], or build the image with EXTRAS=route53"
)


class Secret(msgspec.Struct):
    """The texts of the public and of the private file."""

    key: str
    private: str


def read_secret(name: str) -> tuple[bytes, bytes]:
    """Returns the contents of the public and of the private file. `name` is the name or the ARN of the secret.

    Raises KeyFileError, whose text has no part of the secret.
    """
    if find_spec("botocore") is None:
        raise KeyFileError(MISSING)
    for logger in ("botocore", "urllib3"):  # with `debug`, these loggers would write the secret
        logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
    try:
        secret = msgspec.json.decode(_text(name), type=Secret)
    except UNDECODABLE:
        raise KeyFileError(f"{name}: a JSON object with the texts 'key' and 'private' was expected") from None
    return secret.key.encode(), secret.private.encode()


def _text(name: str) -> str:
    """Returns the text of a secret. Raises KeyFileError."""
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    hidden: list[str | None] = []
    try:
        session = botocore.session.Session()
        if os.environ.get("AWS_REGION"):
            session.set_config_variable("region", os.environ["AWS_REGION"])
        credentials = session.get_credentials()
        if credentials is not None:
            frozen = credentials.get_frozen_credentials()
            hidden = [frozen.access_key, frozen.secret_key, frozen.token]
        retries = {"mode": "standard", "total_max_attempts": 3}
        config = Config(connect_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT, retries=retries)
        found = session.create_client("secretsmanager", config=config).get_secret_value(SecretId=name)
        return str(found.get("SecretString", ""))
    except (BotoCoreError, ClientError, ValueError) as error:  # ValueError: an endpoint that is no URL
        raise KeyFileError(f"{name}: {Redactor(hidden).text(error)}") from None
