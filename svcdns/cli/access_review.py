"""Finds the permissions that a user of a cluster lacks (SelfSubjectAccessReview, Kubernetes authorization API)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from svcdns.cli.errors import CannotRun
from svcdns.conformance.api import Api, api_of
from svcdns.conformance.errors import ConformanceError
from svcdns.errors import SvcdnsError
from svcdns.inspection.permissions import VERBS, Permission

_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def missing(needed: Iterable[Permission], kubeconfig: str, context: str) -> list[tuple[str, Permission]]:
    """Returns each verb and permission that the user of the kubeconfig lacks. Raises CannotRun."""
    try:
        return asyncio.run(_missing(tuple(needed), kubeconfig, context))
    except (ConformanceError, SvcdnsError) as failure:
        raise CannotRun(str(failure)) from failure


async def _missing(needed: Iterable[Permission], kubeconfig: str, context: str) -> list[tuple[str, Permission]]:
    async with api_of(kubeconfig, context) as api:
        asked = [(verb, permission) for permission in needed for verb in VERBS]
        return [(verb, permission) for verb, permission in asked if not await _allowed(api, verb, permission)]


async def _allowed(api: Api, verb: str, permission: Permission) -> bool:
    attributes = {"verb": verb, "group": permission.group, "resource": permission.resource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await api.create(_REVIEWS, review)
    status = answer.get("status")
    return isinstance(status, dict) and bool(status.get("allowed"))
