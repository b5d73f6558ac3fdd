"""The policy pack: it hands the engine's resources to the guardrails, whole, and reports what they say where it belongs."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pulumi_policy
import pytest
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, unknown_checking_proxy

from infra.guardrails import Resource, broken
from tests.unit.recording import ROOT
from tests.unit.test_guardrails import changed, found, put
from tests.unit.test_stack import deployed


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """What policy/__main__.py gives to Pulumi's constructor, which would serve it, and never return."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(pulumi_policy, "PolicyPack", lambda **said: given.update(said))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".", str(ROOT))])  # as the engine starts it
    runpy.run_path(str(ROOT / "policy/__main__.py"))
    assert sys.path[0] == str(ROOT)
    return given


def _as_the_engine_has_it(resource: Resource) -> SimpleNamespace:
    props = unknown_checking_proxy(dict(resource.props))
    kind = resource.kind
    opts = SimpleNamespace(protect=resource.protected)
    return SimpleNamespace(resource_type=kind, name=resource.name, urn=f"urn:{kind}:{resource.name}", props=props, opts=opts)


def _reported(policy: Any, args: object) -> list[tuple[str, str | None]]:
    said: list[tuple[str, str | None]] = []
    policy.validate(args, lambda message, urn=None: said.append((message, urn)))
    return said


def test_it_stops_a_deployment_and_can_not_be_switched_off_resource_by_resource(pack: Mapping[str, Any]) -> None:
    assert pack["enforcement_level"] == pulumi_policy.EnforcementLevel.MANDATORY
    assert pack["name"] == "orthanc-guardrails"
    assert [policy.name for policy in pack["policies"]] == ["resources", "stack"]
    assert {policy.enforcement_level for policy in pack["policies"]} == {None}


def test_it_says_what_the_guardrails_say_of_each_resource(pack: Mapping[str, Any]) -> None:
    each, _ = pack["policies"]
    for resource in (made.resource for made in deployed("prod").made):
        assert _reported(each, _as_the_engine_has_it(resource)) == [], resource.name
    for worse in (
        changed(found("Instance"), put("storageEncrypted", False)),
        changed(found("LaunchTemplate"), put("blockDeviceMappings.0.ebs.kmsKeyId", None)),
        changed(found("Key"), put("enableKeyRotation", False)),
    ):
        assert _reported(each, _as_the_engine_has_it(worse)) == [(message, None) for message in broken(worse)] != []


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Instance", "kmsKeyId", UNKNOWN_STRING_VALUE),
        ("LaunchTemplate", "blockDeviceMappings.0.ebs.kmsKeyId", UNKNOWN_STRING_VALUE),
        ("VpcEndpoint", "routeTableIds", [UNKNOWN_STRING_VALUE]),
    ],
)
def test_what_a_preview_can_not_know_is_left_for_the_deployment(pack: Mapping[str, Any], kind: str, path: str, value: object) -> None:
    each, _ = pack["policies"]
    assert _reported(each, _as_the_engine_has_it(changed(found(kind), put(path, value)))) == []


def test_it_looks_into_lists_too(pack: Mapping[str, Any]) -> None:
    each, _ = pack["policies"]
    worse = changed(found("LaunchTemplate"), put("tagSpecifications.0.tags", {"note": "-----BEGIN PRIVATE KEY-----"}))
    assert [message for message, _ in _reported(each, _as_the_engine_has_it(worse))] == [
        "no_secret_in_plain: tagSpecifications[0].tags.note holds a private key"
    ]


def test_what_a_kept_stack_does_not_protect_is_reported_where_it_is(pack: Mapping[str, Any]) -> None:
    _, whole = pack["policies"]
    everything = [made.resource for made in deployed("prod").made]
    sound = SimpleNamespace(resources=[_as_the_engine_has_it(resource) for resource in everything])
    assert _reported(whole, sound) == []
    loose = [replace(r, protected=False) if r.name == "tls-inside-1-authority" else r for r in everything]
    reported = _reported(whole, SimpleNamespace(resources=[_as_the_engine_has_it(resource) for resource in loose]))
    assert {urn for _, urn in reported} == {f"urn:{r.kind}:{r.name}" for r in loose if r.name == "tls-inside-1-authority"}
    assert len(reported) == 2  # the key and the certificate
    for worse in (put("deletionProtection", False), put("skipFinalSnapshot", True)):
        open_ = [_as_the_engine_has_it(changed(r, worse) if r.name == "database-instance" else r) for r in everything]
        assert [urn for _, urn in _reported(whole, SimpleNamespace(resources=open_))] == ["urn:aws:rds/instance:Instance:database-instance"]
