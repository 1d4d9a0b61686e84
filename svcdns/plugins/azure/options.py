"""The options of `azure` (docs/plugins/azure.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block
from svcdns.zones.hosted_zone_options import hosted_zone
from svcdns.zones.hosted_zones import HostedZone, Options, ZoneGroup, ZoneSource

OPTIONS: Final = ("tenant", "client", "secret", "subscription", "environment", "fallthrough", "access")
ACCESS: Final = ("public", "private")
REFRESH: Final = 60.0


class Cloud(NamedTuple):
    """The hosts of an Azure cloud: for logins, and for the management API."""

    login: str
    management: str


PUBLIC: Final = Cloud("login.microsoftonline.com", "management.azure.com")
_CHINA: Final = Cloud("login.chinacloudapi.cn", "management.chinacloudapi.cn")
_GERMANY: Final = Cloud("login.microsoftonline.de", "management.microsoftazure.de")
_US_GOVERNMENT: Final = Cloud("login.microsoftonline.us", "management.usgovcloudapi.net")
CLOUDS: Final = {
    "AZURECHINACLOUD": _CHINA,
    "AZURECLOUD": PUBLIC,
    "AZUREGERMANCLOUD": _GERMANY,
    "AZUREPUBLICCLOUD": PUBLIC,
    "AZUREUSGOVERNMENT": _US_GOVERNMENT,
    "AZUREUSGOVERNMENTCLOUD": _US_GOVERNMENT,
}


@dataclass(frozen=True, slots=True)
class Source(ZoneSource):
    """Zones at Azure. The identifier of a zone is `ACCESS/GROUP/ZONE`, with `public` or `private` as ACCESS.

    Without `tenant`, `client` or `secret`, the managed identity of the machine is used.
    """

    tenant: str = ""
    client: str = ""
    secret: str = field(default="", repr=False)
    subscription: str = ""
    cloud: Cloud = PUBLIC

    @property
    def account(self) -> tuple[str, ...]:
        """Returns the names of the account, and the hosts of the cloud."""
        return self.tenant, self.client, self.subscription, *self.cloud


def parse(block: Block) -> Options:
    """Returns the options of the block's `azure` directives, which have one account. Raises CorefileError."""
    warnings: list[str] = []
    found: dict[str, HostedZone] = {}
    fallthrough: tuple[str, ...] = ()
    values: dict[str, str] = {}
    cloud = PUBLIC
    for directive in block.directives:
        access = "public"
        lines = tuple(arguments.options(directive, dict.fromkeys(set(OPTIONS) - {"fallthrough"}, 1)))
        warnings += arguments.ignored_option_zones(lines, {"fallthrough": 0})
        for line in lines:
            match line.name.text:
                case "tenant" | "client" | "secret" | "subscription" as name:
                    values[name] = arguments.first(line).text
                case "environment":
                    cloud = _cloud(arguments.first(line))
                case "fallthrough":
                    fallthrough = arguments.fallthrough(line)
                case "access":
                    access = _access(arguments.first(line))
                case _:
                    raise arguments.unknown_option(line, OPTIONS)
        _add(directive, access, found)
    source = Source(tuple(found.values()), REFRESH, cloud=cloud, **values)
    return Options((ZoneGroup(source, fallthrough, block.directives[0].position),), tuple(warnings))


def _add(directive: Directive, access: str, found: dict[str, HostedZone]) -> None:
    for word in directive.arguments:
        group, _, zone = word.text.partition(":")
        if not group or not zone:
            raise CorefileError(word.position, f'invalid resource group/zone: "{word.text}"')
        if word.text in found:
            raise CorefileError(word.position, f'conflicting zone: "{word.text}"')
        found[word.text] = hosted_zone(word, zone, f"{access}/{group}/{zone.rstrip('.')}")


def _cloud(word: Token) -> Cloud:
    cloud = CLOUDS.get(word.text.upper())
    if cloud is None:
        hint = arguments.nearest(word.text.upper(), CLOUDS)
        text = f"autorest/azure: There is no cloud environment matching the name '{word.text.upper()}'{hint}"
        raise CorefileError(word.position, f"cannot set azure environment: {text}")
    return cloud


def _access(word: Token) -> str:
    if word.text not in ACCESS:
        raise CorefileError(word.position, f"invalid access value: can be public/private, found: {word.text}")
    return word.text
