"""The policy pack: hands every resource that Pulumi is about to make to infra.guardrails. No rule stands here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

sys.path.insert(0, str(Path(__file__).parent.parent))

from infra.guardrails import NOT_KNOWN, Resource, broken, broken_together


def known(props: Any) -> Any:
    """Plain data from the engine's proxies, which raise when a preview can't know a value yet."""
    if isinstance(props, Mapping):
        return {key: _known_item(props, key) for key in props}
    if isinstance(props, Sequence) and not isinstance(props, str):  # the engine's lists are none of Python's
        return [_known_item(props, n) for n in range(len(props))]
    return props


def _known_item(props: Any, key: str | int) -> Any:
    try:
        return known(props[key])
    except UnknownValueError:
        return NOT_KNOWN


def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
    for message in broken(Resource(kind=args.resource_type, name=args.name, props=known(args.props), protected=args.opts.protect)):
        report(message, None)


def validate_stack(args: StackValidationArgs, report: ReportViolation) -> None:
    resources = {r.urn: Resource(kind=r.resource_type, name=r.name, props=known(r.props), protected=r.opts.protect) for r in args.resources}
    urns = {id(resource): urn for urn, resource in resources.items()}
    for resource, message in broken_together(resources.values()):
        report(message, urns[id(resource)])


# Mandatory: an exception is named in infra/guardrails.py with its reason, not switched off here.
PolicyPack(
    name="orthanc-guardrails",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[
        ResourceValidationPolicy(name="resources", description="What must hold for every resource by itself", validate=validate),
        StackValidationPolicy(name="stack", description="What must hold for the stack as a whole", validate=validate_stack),
    ],
)
