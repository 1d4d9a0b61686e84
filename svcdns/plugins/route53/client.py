"""Reads hosted zones of Route 53, in threads of the control process. Only this module imports the AWS library."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from svcdns.plugins.route53.options import Source
from svcdns.plugins.route53.records import records_of
from svcdns.zones.hosted_zone_refresh import Fetched, Provider, Redactor
from svcdns.zones.hosted_zones import HostedZone, ProviderError

if TYPE_CHECKING:
    from svcdns.wire.record import Record

CONNECT_TIMEOUT: Final = 5
READ_TIMEOUT: Final = 10
"""Seconds to wait for a connection and for a reply. The library makes at most three attempts."""
PAGE: Final = 1000
"""The most record sets of one reply."""
_TRUE: Final = ("1", "t", "T", "true", "TRUE", "True")


class Route53Client:
    """A client for one set of credentials."""

    def __init__(self, api: Any, redactor: Redactor) -> None:
        """`api` is a client of the AWS library for the service Route 53."""
        self._api, self._redactor = api, redactor

    def check(self, hosted: HostedZone) -> None:
        """Asks for the zone by its name and identifier. Raises ProviderError."""
        self._call("", self._api.list_hosted_zones_by_name, DNSName=hosted.zone, HostedZoneId=hosted.ident)

    def fetch(self, hosted: HostedZone) -> Fetched:
        """Returns the records of a zone. Raises ProviderError."""
        records: list[Record] = []
        warnings: list[str] = []
        position: dict[str, Any] = {}
        failure = f"failed to list resource records for {hosted.zone}:{hosted.ident} from route53: "
        while True:
            list_sets = self._api.list_resource_record_sets
            page = self._call(failure, list_sets, HostedZoneId=hosted.ident, MaxItems=str(PAGE), **position)
            found = (records_of(record_set, records) for record_set in page["ResourceRecordSets"])
            warnings += filter(None, found)
            if not page["IsTruncated"]:
                return Fetched(records, warnings)
            following = {
                f"Start{name}": page[f"Next{name}"]
                for name in ("RecordName", "RecordType", "RecordIdentifier")
                if f"Next{name}" in page
            }
            if following == position:
                raise ProviderError(f"{failure}the list does not end")
            position = following

    def _call(self, failure: str, function: Any, **fields: str) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return function(**fields)
        except (BotoCoreError, ClientError) as error:
            raise ProviderError(failure + self._redactor.text(error)) from None


def connect(source: Source) -> Route53Client:
    """Returns a client. Raises ProviderError."""
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    secrets = [source.access_key, source.secret_key]
    try:
        session = botocore.session.Session(profile=source.profile or None)
        if source.credentials_file:
            session.set_config_variable("credentials_file", source.credentials_file)
            if os.environ.get("AWS_SDK_LOAD_CONFIG") not in _TRUE:
                session.set_config_variable("config_file", source.credentials_file)
        if source.access_key:
            session.set_credentials(source.access_key, source.secret_key)
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region") or _region_of_instance(session)
        session.set_config_variable("region", region)
        credentials = session.get_credentials()
        if credentials is not None:
            frozen = credentials.get_frozen_credentials()
            secrets += [frozen.access_key, frozen.secret_key, frozen.token]
        config = Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"mode": "standard", "total_max_attempts": 3},
        )
        api = session.create_client("route53", endpoint_url=source.endpoint or None, config=config)
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
        raise ProviderError(Redactor(secrets).text(error)) from None
    return Route53Client(api, Redactor(secrets))


def _region_of_instance(session: Any) -> str:
    """Returns the region of the EC2 instance that this process runs on. Raises ProviderError."""
    from botocore.utils import IMDSRegionProvider

    region = IMDSRegionProvider(session).provide()
    if not region:
        raise ProviderError("failed to get region from IMDS: no reply; set AWS_REGION")
    return str(region)


PROVIDER: Final = Provider(
    plugin="route53",
    package="botocore",
    connect=connect,
    loggers=("botocore", "urllib3"),
    not_connected="failed to create route53 client: ",
    not_checked="failed to create route53 plugin: ",
    not_fetched="failed to initialize route53 plugin: ",
)
