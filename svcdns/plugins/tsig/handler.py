"""The `tsig` plugin: refuses queries without a required signature or with an invalid one, and has the keys' secrets.

The core verifies the signature before the plugin chain, and signs the reply after it (`serving.signed_queries`).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import rcode_only
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.tsig.key_file import keys
from svcdns.plugins.tsig.options import Options
from svcdns.wire.codes import Opcode, Rcode, type_text
from svcdns.wire.tsig import BADSIG

ERRORS: Final = {BADSIG: "bad signature", Rcode.BADKEY: "unknown key or algorithm", Rcode.BADTIME: "bad time"}


class Tsig(Plugin):
    """Decides about signed and unsigned queries in its zones. The next plugin answers all others."""

    name = "tsig"
    reads_nothing = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the rules, and a warning for each word that has no effect."""
        return Settings(tsig=options.rules, warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Uses the secrets in the Corefile, and those in files that the control process has sent or sends later."""
        self._rules, self._log = options.rules, environment.log
        self._passes = options.rules.types == options.rules.opcodes == frozenset()
        """True if no query must be signed."""
        self._files: dict[str, dict[bytes, bytes | None]] = {"": dict(options.secrets)}
        for path in options.files:
            data = environment.data(self.name, path)
            if data is not None:
                self._files[path] = keys(data, path)
            environment.on_data(self.name, path, partial(self._take, path))

    def _take(self, path: str, content: bytes) -> None:
        self._files[path] = keys(content, path)

    def tsig_secret(self, key: bytes) -> bytes | None:
        """Returns the secret of a key, or None if the key is unknown or its secret is not base64."""
        return next((secret for known in self._files.values() if (secret := known.get(key)) is not None), None)

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - all zones
        """Returns True if no query must be signed."""
        return self._passes

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True if no query must be signed. Signed queries take the plugin chain in any case."""
        return self._passes

    def join_cold_path(self, cold_path: ColdPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True if no query must be signed. Signed queries take the plugin chain in any case."""
        return self._passes

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers NOTAUTH for an invalid signature, and REFUSED for a query without a required one."""
        error = query.tsig_error
        if error:
            self._log.debug("TSIG validation failed: %s %s", type_text(query.rtype), ERRORS[error])
            return rcode_only(Rcode.NOTAUTH)
        if error is None and self._rules.requires(query.rtype, Opcode.QUERY) and self._rules.covers(query.key):
            self._log.debug("rejecting '%s' request without TSIG", type_text(query.rtype))
            return rcode_only(Rcode.REFUSED)
        return following(query)
