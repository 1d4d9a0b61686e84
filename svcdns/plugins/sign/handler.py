"""The `sign` plugin in a worker: sets metrics from what the control process has sent. No query reaches the plugin."""

from __future__ import annotations

from typing import Any, Final

from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.sign.options import Options, ZoneToSign
from svcdns.plugins.sign.state import decode, key
from svcdns.telemetry.counters import Family, MetricKind

FAILED: Final = Family(
    "svcdns_sign_failed",
    MetricKind.GAUGE,
    "1 while a zone cannot be signed; its previous signed file stays.",
    ("file", "zone"),
    uniform=True,
)
EXPIRATION: Final = Family(
    "svcdns_sign_expiration_timestamp_seconds",
    MetricKind.GAUGE,
    "The first end of a signature of the SOA record in a signed file, in Unix seconds; 0 if there is no signature.",
    ("file", "zone"),
    uniform=True,
)


class Sign(Plugin):
    """Sets the metrics of the signed files of one server block."""

    name = "sign"
    in_chain = False

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Registers for the states of the zones, which the control process sends."""
        super().__init__(options, environment)
        self._states: dict[ZoneToSign, bytes] = {}
        for zone in options.zones:
            self._follow(zone)

    def _follow(self, zone: ZoneToSign) -> None:
        def changed(payload: bytes) -> None:
            self._states[zone] = payload

        payload = self.environment.data(self.name, key(zone))
        if payload is not None:
            changed(payload)
        self.environment.on_data(self.name, key(zone), changed)

    def tick(self) -> None:
        """Sets the metrics."""
        for zone, payload in self._states.items():
            state = decode(payload)
            self._set(FAILED, zone, float(state.failed))
            self._set(EXPIRATION, zone, float(state.expiration))

    def stop(self) -> None:
        """Sets the metrics to 0."""
        for zone in self._states:
            self._set(FAILED, zone, 0.0)
            self._set(EXPIRATION, zone, 0.0)

    def _set(self, family: Any, zone: ZoneToSign, value: float) -> None:
        counters = self.environment.counters
        counters.set(counters.cell(family, zone.signed_file, zone.zone), value)
