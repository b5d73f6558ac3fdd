"""A kept stack of the last release, taken over by this program: it changes what CHANGELOG.md says, and loses nothing that is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rehearsal.laboratory import ROOT, Laboratory, missing
from tests import changelog

pytestmark = pytest.mark.engine

STACK = "prod"  # kept, and with all that a stack can have
MODALITIES = [
    {"aet": "CT1", "may": ["store"], "certificates": [1, 2]},
    {"aet": "WS", "may": ["find", "move"], "address": "198.51.100.20", "port": 2762},
]
BUCKET = "aws:s3/bucket:Bucket"  # superseded releases lie there; it is not protected, because a destroyed stack leaves none
Resource = tuple[str, str]  # type and name


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    lab: Laboratory
    release: Path
    said: changelog.Version
    before: Mapping[Resource, Mapping[str, Any]]
    outputs: Mapping[str, Any]
    planned: frozenset[changelog.Change]
    done: frozenset[changelog.Change]


def resources(lab: Laboratory) -> Mapping[Resource, Mapping[str, Any]]:
    told = json.loads(lab.state(STACK, secrets=True))["deployment"]["resources"]
    return {changelog.identity(resource["urn"]): resource for resource in told}


def kept(before: Mapping[Resource, Mapping[str, Any]]) -> frozenset[Resource]:
    return frozenset(which for which, resource in before.items() if resource.get("protect") or which[0] == BUCKET)


def enrolled(among: Mapping[Resource, Mapping[str, Any]]) -> Mapping[Resource, object]:
    """Keys and certificates of authorities and modalities: they are on machines that no `up` reaches."""
    return {
        (kind, name): resource["outputs"]
        for (kind, name), resource in among.items()
        if kind.startswith("tls:") and (name.endswith("-authority") or "-modality-" in name)
    }


@pytest.fixture(scope="module")
def upgrade(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgrade]:
    if lacking := missing():
        pytest.skip(f"not on PATH: {', '.join(lacking)} (docs/aws.md, Rehearsal)")
    said, last, *_ = changelog.versions(changelog.CHANGELOG.read_text(encoding="utf-8"))
    assert last.commit is not None
    changelog.needs(last.commit)
    release = changelog.files_of(last.commit, tmp_path_factory.mktemp("release"))
    with Laboratory(release) as lab:
        lab.say(STACK, modalities=MODALITIES)
        lab.pulumi("stack", "init", STACK)
        lab.up(STACK)
        before, outputs = resources(lab), lab.outputs(STACK)
        lab.take(ROOT)
        planned, done = changelog.changes(lab.steps(STACK)), changelog.changes(lab.up(STACK))
        yield Upgrade(lab=lab, release=release, said=said, before=before, outputs=outputs, planned=planned, done=done)


def test_an_up_from_the_last_release_changes_what_the_changelog_says(upgrade: Upgrade) -> None:
    done = upgrade.done | changelog.of_outputs(upgrade.outputs, upgrade.lab.outputs(STACK))
    if told := changelog.disagreement(upgrade.said.changes, done, kept(upgrade.before)):
        pytest.fail(told, pytrace=False)
    assert upgrade.planned == upgrade.done, "the preview had told something else"


def test_what_is_kept_is_the_same_afterwards(upgrade: Upgrade) -> None:
    which = kept(upgrade.before)
    assert {kind for kind, _ in which} >= {
        "aws:rds/instance:Instance",
        "aws:kms/key:Key",
        "aws:ec2/eip:Eip",
        "tls:index/privateKey:PrivateKey",
        "tls:index/selfSignedCert:SelfSignedCert",
        BUCKET,
    }
    after = resources(upgrade.lab)
    assert {one: after[one]["id"] for one in which} == {one: upgrade.before[one]["id"] for one in which}
    assert all(after[one].get("protect") or one[0] == BUCKET for one in which)


def test_nobody_is_enrolled_anew(upgrade: Upgrade) -> None:
    before = enrolled(upgrade.before)
    assert json.dumps(list(before.values())).count("BEGIN CERTIFICATE-----") >= 3 + 3, (
        "three authorities, and a certificate for each number"
    )
    assert enrolled(resources(upgrade.lab)) == before


def test_a_preview_afterwards_shows_no_change(upgrade: Upgrade) -> None:
    upgrade.lab.pulumi("preview", "--expect-no-changes", stack=STACK)


def test_the_release_before_takes_the_stack_back(upgrade: Upgrade) -> None:
    upgrade.lab.take(upgrade.release)
    back = changelog.changes(upgrade.lab.up(STACK))
    assert changelog.lost(back, kept(upgrade.before)) == []
    assert upgrade.lab.outputs(STACK)["release"] == upgrade.outputs["release"]
    assert enrolled(resources(upgrade.lab)) == enrolled(upgrade.before)
