"""Files with TSIG keys in the form of BIND's named.conf, which the control process reads for the plugin `tsig`.

A start fails if a file cannot be used. Later, the keys that were read last stay in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from svcdns.corefile.blocks import Position
from svcdns.corefile.errors import CorefileError
from svcdns.plugins.tsig.options import Options, decoded, key_name

PERIOD: Final = 10.0
"""The seconds between two reads of the files."""
MAX_SIZE: Final = 1 << 20
_HERE: Final = Position("Corefile", 1, 1)


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - a hook
    """Returns the content of each file under its path. Raises CorefileError if a file cannot be used."""
    seen = {key for key, _ in options.secrets}
    out = {}
    for path in options.files:
        position = options.position or _HERE
        try:
            with Path(path).open("rb") as file:
                content = file.read(MAX_SIZE + 1)
        except (OSError, ValueError) as error:  # ValueError: a path with a zero octet
            reason = getattr(error, "strerror", None) or error
            raise CorefileError(position, f"plugin/tsig: {path}: {reason}") from error
        if len(content) > MAX_SIZE:
            raise CorefileError(position, f"plugin/tsig: {path}: the file has more than {MAX_SIZE} octets")
        for key in keys(content, path):
            if key in seen:
                raise CorefileError(position, f"plugin/tsig: {path}: a key is defined twice")
            seen.add(key)
        out[path] = content
    return out


def period(options: Options) -> float:
    """Returns the seconds between two reads of the files, or 0 if there are none."""
    return PERIOD if options.files else 0.0


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the files again. Raises CorefileError if a file cannot be used."""
    return gather(options, known)


def keys(content: bytes, path: str) -> dict[bytes, bytes | None]:
    """Returns the secrets in a file by the wire names of their keys; None for a secret that is not base64.

    Each key has the form of named.conf, with each statement on its own line:

        key "example." {
            algorithm hmac-sha256;
            secret "X28hl0BOfAL5G0jsmJWSacrwn7YRm2f6U5brnzwWEus=";
        };

    The algorithm is ignored: the client chooses it. Raises CorefileError, which names the line.
    """
    out: dict[bytes, bytes | None] = {}
    present: bytes | None = None
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        words, here = line.split(), Position(path, number, 1)
        match words:
            case []:
                continue
            case ["key", name, *_] if present is None and name.strip('"{'):
                present = key_name(name.strip('"{'), here)
                if present in out:
                    raise CorefileError(here, "the key is defined twice")
            case ["algorithm", *_] if present is not None:
                continue
            case ["secret", secret, *_] if present is not None and secret.strip('";'):
                out[present] = decoded(secret.strip('";'))
            case [("}" | "};"), *_] if present in out:
                present = None
            case _:
                expected = "'key NAME {' was" if present is None else "'secret', 'algorithm' or '};' after a secret was"
                raise CorefileError(here, f"'{words[0]}' was found, {expected} expected")
    if present is not None and present not in out:
        raise CorefileError(Position(path, len(content.splitlines()), 1), "the last key has no secret")
    return out
