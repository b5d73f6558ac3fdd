"""The whole program against mocks: what a stack is made of, in several scenarios."""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
from collections.abc import Mapping
from functools import cache

import pulumi
import pytest
import yaml
from orthanc_host.decisions import Pointer

from config_templates import places
from infra.access import METRICS, WITHOUT_RESOURCE
from infra.guardrails import broken, broken_together, tags_of
from infra.host import USER_DATA_BYTES, user_data
from infra.settings import Settings, SettingsError
from infra.stack import Stack
from tests.host_program.pretended import Pretended, agent
from tests.unit.recording import ACCOUNT, LEAST, REGION, ROOT, Recorder, deploy, is_secret, request, web_certificate
from tests.unit.test_settings import modality

OWN = web_certificate()
MANY = [modality(aet=f"CT{n}", may=["store", "find", "move", "get"], address=f"198.51.100.{n}", port=104) for n in range(1, 31)]


def said(stack: str) -> Mapping[str, object]:
    content = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))["config"]
    assert isinstance(content, dict)
    return {k.removeprefix("orthanc:"): v for k, v in content.items() if k.startswith("orthanc:")}


SCENARIOS: Mapping[str, Mapping[str, object]] = {
    "dev": said("dev"),
    "prod": said("prod"),
    "many modalities": {**LEAST, "modalities": MANY},
    "gateway": {**LEAST, "modalities": [modality(), modality(aet="GW1", silentMinutes=15)]},
    "restored": {**LEAST, "restoreFrom": "orthanc-old-final"},
    "open": {**LEAST, "dicomCidrs": ["0.0.0.0/0"], "openToTheWorld": True},
    "renewing, own certificates": {
        **LEAST,
        "modalities": [modality(certificates=[1, 2], requests={"2": request(places.modality_host("CT1"))})],
        "webCertificate": OWN.certificate,
        "webCertificateKey": OWN.key,
        "domainName": "pacs.example.org",
        "alarmEmail": "pacs@example.org",
    },
}


@cache
def deployed(scenario: str) -> Recorder:
    return deploy(SCENARIOS[scenario])


def released(stack: Recorder) -> Mapping[str, str]:
    """The files of the archive that the stack uploads."""
    data = base64.b64decode(stack.one("s3/bucketObjectv2")["contentBase64"])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {entry.name: (tar.extractfile(entry) or io.BytesIO()).read().decode() for entry in tar}


def emitted() -> set[str]:
    """The metrics that a host sends with one proof."""
    machine, release = Pretended(), Pointer("bucket", "release.tar.gz", "1", "a" * 64)
    machine.lay(release)
    agent(machine, release).run()
    return set(machine.metrics)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_breaks_a_guardrail(scenario: str) -> None:
    made = deployed(scenario).made
    assert [f"{m.name}: {why}" for m in made for why in broken(m.resource)] == []
    assert [f"{r.name}: {why}" for r, why in broken_together(m.resource for m in made)] == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_resource_belongs_to_a_component(scenario: str) -> None:
    loose = [m.name for m in deployed(scenario).made if m.kind.startswith(("aws:", "tls:", "random:")) and "orthanc:infra:" not in m.urn]
    assert loose == []


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_keys_and_passwords_are_secrets_wherever_they_stand(scenario: str) -> None:
    stack = deployed(scenario)
    for made in stack.made:
        for key, value in made.raw.items():
            text = json.dumps(value, default=str)
            if "PRIVATE KEY-----" in text or "generated-secrets-password" in text:
                assert is_secret(value), f"{made.name}.{key}"
    in_release = json.dumps(dict(released(stack)))
    assert "PRIVATE KEY" not in in_release
    assert "generated-secrets-password" not in in_release


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_file_that_the_containers_need_has_one_source(scenario: str) -> None:
    stack = deployed(scenario)
    needed = {f"{directory}/{file}" for directory, files in places.SECRETS.items() for file in files}
    public = {name for name in released(stack) if name.endswith(".crt")}
    secret = set(json.loads(released(stack)["host.json"])["files"])
    made_by_the_host = {"orthanc/pgpass", "orthanc/database-authority.crt"}  # from the database's secret, and its authority's URL
    assert needed <= public | secret | made_by_the_host
    assert not public & secret
    keys = json.loads(stack.of("secretsmanager/secretVersion")["secrets-keys"]["secretString"])
    users = json.loads(stack.of("secretsmanager/secretVersion")["secrets-users"]["secretString"])
    assert secret == set(keys) | set(users)


def test_a_preview_shows_every_resource_and_the_files_that_hosts_would_get() -> None:
    shown = deploy(SCENARIOS["many modalities"], preview=True)
    assert {(m.kind, m.name) for m in shown.made} == {(m.kind, m.name) for m in deployed("many modalities").made}
    files = shown.one("orthanc:infra:ConfigRelease")["files"]
    assert all(f'"CT{n}"' in files["nginx/nginx.conf"] for n in range(1, 31))
    assert [f"{m.name}: {why}" for m in shown.made for why in broken(m.resource)] == []


def test_a_reviewer_reads_certificates_and_host_json_beside_the_files() -> None:
    (made,) = [m for m in deployed("dev").made if m.kind == "orthanc:infra:ConfigRelease"]
    assert not [key for key, value in made.raw.items() if is_secret(value)]
    assert {**made.props["files"], **made.props["certificates"], "host.json": made.props["host"]}.items() <= released(
        deployed("dev")
    ).items()
    assert "nginx/server.crt" in made.props["certificates"]


def test_dev_and_prod_share_an_account() -> None:
    def physical(stack: Recorder) -> set[str]:
        names = {
            str(m.props[k])
            for m in stack.made
            for k in ("name", "identifier", "dashboardName")
            if m.kind.startswith("aws:") and k in m.props
        }
        return {n for n in names if n}

    assert all("test" in name for name in physical(deployed("prod")))


def test_what_is_kept_is_protected_and_nothing_of_dev_lingers() -> None:
    kept, lost = deployed("prod"), deployed("dev")
    protected = {m.name for m in kept.made if m.options.protect}
    assert {"database-instance", "encryption-key", "secrets-keys", "secrets-users", "tls-outside-1-authority"} <= protected
    database = kept.one("rds/instance")
    assert (database["deletionProtection"], database["skipFinalSnapshot"]) == (True, False)
    assert [m.name for m in lost.made if m.options.protect] == []
    database = lost.one("rds/instance")
    assert (database["deletionProtection"], database["skipFinalSnapshot"], database["deleteAutomatedBackups"]) == (False, True, True)
    assert {s["recoveryWindowInDays"] for s in lost.of("secretsmanager/secret").values()} == {0}
    assert lost.one("s3/bucket")["forceDestroy"] is True


def test_a_restored_database_begins_with_a_copy_of_the_snapshot_under_our_own_key() -> None:
    stack = deployed("restored")
    copy = stack.one("rds/snapshotCopy")
    assert (copy["sourceDbSnapshotIdentifier"], copy["kmsKeyId"]) == ("orthanc-old-final", stack.one("rds/instance")["kmsKeyId"])
    assert stack.one("rds/instance")["snapshotIdentifier"] == copy["targetDbSnapshotIdentifier"]
    ignored = {m.name: m.options.ignore_changes for m in stack.made if m.name in {"database-instance", "database-restored"}}
    assert ignored["database-instance"] == ["snapshot_identifier"], "another snapshot would replace a database with its studies"
    assert ignored["database-restored"] == ["source_db_snapshot_identifier"], "the next up would make another copy of the same name"
    assert not deployed("dev").of("rds/snapshotCopy")


def test_the_database_is_reached_from_the_host_alone() -> None:
    stack = deployed("dev")
    rule = stack.of("vpc/securityGroupIngressRule")["database-from-host"]
    assert rule["referencedSecurityGroupId"] == "host-access-id"
    assert rule["securityGroupId"] == "database-access-id"
    assert not [name for name, r in stack.of("vpc/securityGroupEgressRule").items() if r["securityGroupId"] == "database-access-id"]
    private = {s["cidrBlock"] for name, s in stack.of("ec2/subnet").items() if "private" in name}
    assert {r["cidrIpv4"] for name, r in stack.of("vpc/securityGroupEgressRule").items() if r["fromPort"] == 5432} == private
    assert stack.of("ec2/route").keys() == {"network-way-out"}


def test_the_host_may_send_to_its_modalities_and_nowhere_else() -> None:
    rules = deployed("many modalities").of("vpc/securityGroupEgressRule").values()
    out = {(r["cidrIpv4"], r["fromPort"]) for r in rules if r["fromPort"] not in (443, 5432)}
    assert out == {(f"198.51.100.{n}/32", 104) for n in range(1, 31)}


def test_ingress_is_the_two_ports_from_the_configured_networks() -> None:
    rules = deployed("prod").of("vpc/securityGroupIngressRule").values()
    came_in = {(r["cidrIpv4"], r["fromPort"], r["toPort"]) for r in rules if "cidrIpv4" in r}
    assert came_in == {("198.51.100.0/24", 11112, 11112), ("198.51.100.0/24", 443, 443), ("203.0.113.0/24", 443, 443)}


def test_user_data_is_small_and_the_same_for_every_release() -> None:
    one, other = (deployed(s).one("ec2/launchTemplate")["userData"] for s in ("many modalities", "open"))
    assert one == other
    text = base64.b64decode(one).decode()
    assert len(text) < 8192
    parsed = yaml.safe_load(text)
    assert json.loads(parsed["write_files"][0]["content"]) == {
        "stack": "test",
        "region": REGION,
        "pointer": "/orthanc/test/release",
        "proven": "/orthanc/test/proven",
    }
    assert "aarch64" in text
    assert "fc5d1371f1ec" in text


def test_user_data_are_small_for_the_longest_names_too() -> None:
    stack = Stack(name="a" * 30, region="ap-northeast-3", keep=True)
    assert len(user_data(Settings.load({f"orthanc:{k}": json.dumps(v) for k, v in LEAST.items()}), stack)) < USER_DATA_BYTES


def test_the_pointer_names_bucket_version_and_sha256() -> None:
    stack = deployed("dev")
    (value,) = [p["value"] for p in stack.of("ssm/parameter").values() if p["name"] == "/orthanc/test/release"]
    pointer = json.loads(value)
    assert pointer["version"] == "v1"
    assert pointer["sha256"] == stack.one("s3/bucketObjectv2")["metadata"]["sha256"]


def test_nothing_that_the_host_waits_for_depends_on_its_group() -> None:
    stack = deployed("dev")
    needed = ["release-pointer", "release-archive", "access-policy", "secrets-keys", "secrets-users", "host-address", "host-proven"]
    needed += ["database-instance", "monitoring-host", "monitoring-containers"]
    for name in needed:
        assert "host-group" not in stack.before(name), f"{name} would wait for the host, and the host for it"
    assert "release-archive" in stack.before("release-pointer"), "the record of dependencies is empty"


@pytest.mark.parametrize("scenario", ["dev", "prod"])
def test_the_host_starts_beside_the_database(scenario: str) -> None:
    stack = deployed(scenario)
    assert {"host-template", "network-way-out", "host-proven"} <= stack.before("host-group")
    assert "database-instance" not in stack.before("host-group")
    assert "database-instance" in stack.before("release-pointer"), "only the release waits for it"


def test_the_hosts_role_is_no_wider_than_its_own_things() -> None:
    policy = json.loads(deployed("dev").of("iam/rolePolicy")["access-policy"]["policy"])
    allowed = {a: s for s in policy["Statement"] for a in s["Action"]}
    everything = {a for a, s in allowed.items() if s["Resource"] == "*"}
    assert everything == set(WITHOUT_RESOURCE)
    put = allowed["ssm:PutParameter"]["Resource"]
    assert put == f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/orthanc/test/proven"
    assert len(json.dumps(policy, separators=(",", ":"))) < 10240  # what IAM takes inside a role
    read = allowed["secretsmanager:GetSecretValue"]["Resource"]
    assert len(read) == 3
    assert any("rds!" in arn for arn in read)


def test_a_modality_with_its_own_key_gets_a_certificate_and_no_key() -> None:
    bundle = deployed("renewing, own certificates").outputs["modalities"]["CT1"]
    assert sorted(bundle) == ["1", "2"]
    assert sorted(bundle["1"]) == ["authority", "certificate", "key"]
    assert sorted(bundle["2"]) == ["authority", "certificate"]


def test_an_own_web_certificate_is_the_pages_and_not_dicoms() -> None:
    files = released(deployed("renewing, own certificates"))
    assert files["nginx/web.crt"] == OWN.certificate
    assert files["nginx/server.crt"] != OWN.certificate


def test_the_gateway_serves_the_page_with_the_own_web_certificate() -> None:
    conf = released(deployed("renewing, own certificates"))["nginx/nginx.conf"]
    assert conf.count("ssl_certificate /etc/gateway/web.crt;") == 1


def test_while_a_modality_is_renewed_both_certificates_let_it_in() -> None:
    conf = released(deployed("renewing, own certificates"))["nginx/nginx.conf"]
    assert conf.count('"CT1"') >= 2


def test_certificates_have_the_uses_and_lives_that_their_place_asks_for() -> None:
    made = deployed("many modalities").of("tls/locallySignedCert") or deployed("many modalities").of("index/locallySignedCert")
    uses = {name.split("-", 3)[3]: set(c["allowedUses"]) - {"digital_signature"} for name, c in made.items()}
    days = {name.split("-", 3)[3]: c["validityPeriodHours"] / 24 for name, c in made.items()}
    both = {"server_auth", "client_auth"}
    assert uses["server-1"] == {"server_auth"}
    assert uses["orthanc-1"] == uses["gateway-1"] == uses["modality-CT1-1"] == both
    assert uses["probe-1"] == uses["outgoing-1"] == {"client_auth"}
    assert {days[n] for n in ("server-1", "orthanc-1", "gateway-1", "probe-1", "outgoing-1")} == {397}
    assert days["modality-CT1-1"] == 1095
    requests = deployed("many modalities").of("index/certRequest")
    assert requests["tls-outside-1-modality-CT1-1"]["dnsNames"] == ["ct1.modality.orthanc"]
    assert requests["tls-orthanc-1-orthanc-1"]["dnsNames"] == [places.ORTHANC_HOST]
    assert requests["tls-outside-1-server-1"]["ipAddresses"] == ["192.0.2.10"]


def test_a_number_renews_one_certificate_and_touches_no_other() -> None:
    before = set(deployed("many modalities").of("index/locallySignedCert"))
    after = set(deploy({**SCENARIOS["many modalities"], "serverCertificate": 2}).of("index/locallySignedCert"))
    assert before - after == {"tls-outside-1-server-1"}
    assert after - before == {"tls-outside-1-server-2"}


def test_every_alarm_tells_what_to_do_and_watches_what_exists() -> None:
    stack = deployed("prod")
    made = stack.of("cloudwatch/metricAlarm")
    assert len(made) >= 9
    identifiers = {stack.one("rds/instance")["identifier"], stack.one("autoscaling/group")["name"], "test"}
    assert {v for a in made.values() for v in a["dimensions"].values()} == identifiers
    body = json.loads(stack.one("cloudwatch/dashboard")["dashboardBody"])
    assert {w["properties"]["metrics"][0][1] for w in body["widgets"]} == {a["metricName"] for a in made.values()}
    assert not deployed("dev").of("cloudwatch/dashboard")


def test_the_documentation_lists_the_metrics_that_the_host_emits_and_alarms_watch_no_others() -> None:
    alarms = deployed("dev").of("cloudwatch/metricAlarm").values()
    listed = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/aws.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == emitted()
    assert {a["metricName"] for a in alarms if a["namespace"] == METRICS} <= listed


def test_logs_end_and_are_encrypted_by_a_key_that_lets_their_service_in() -> None:
    stack = deployed("prod")
    names = {g["name"] for g in stack.of("cloudwatch/logGroup").values()}
    assert names == {
        "/orthanc/test/flows",
        "/orthanc/test/containers",
        "/orthanc/test/host",
        "/aws/rds/instance/orthanc-test/postgresql",
        "/aws/rds/instance/orthanc-test/upgrade",
    }
    policy = json.loads(stack.one("kms/key")["policy"])
    (logs,) = [s for s in policy["Statement"] if s["Sid"] == "Logs"]
    patterns = [a.split("log-group:")[1] for a in logs["Condition"]["ArnLike"]["kms:EncryptionContext:aws:logs:arn"]]
    assert all(any(name.startswith(p.removesuffix("*")) for p in patterns) for name in names)


def test_tags_name_stack_and_project() -> None:
    group = deployed("dev").one("autoscaling/group")
    assert tags_of(group)["orthanc:stack"] == "test"
    stack = Stack(name="test", region=REGION, keep=False)
    assert (stack.tags()["Name"], stack.tags("database")["Name"]) == ("orthanc-test", "orthanc-test-database")


@pytest.mark.parametrize(("name", "region"), [("My_Stack", REGION), ("test", "Frankfurt")])
def test_nobody_makes_a_stack_that_aws_would_refuse_the_names_of(name: str, region: str) -> None:
    with pytest.raises(SettingsError, match=name if region == REGION else region):
        Stack(name=name, region=region, keep=True)


def test_settings_may_come_by_the_environment_as_the_engine_hands_them_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps({"orthanc:aet": "HANDED", "orthanc:dicomPort": "104"}))
    told = deploy({**LEAST, "dicomPort": 105}).outputs["service"]
    assert (told["aet"], told["dicomPort"]) == ("HANDED", 105)


def test_bad_settings_stop_the_program_before_the_first_resource() -> None:
    with pytest.raises(pulumi.RunError) as error:
        deploy({"zones": ["a"], "keep": "perhaps"})
    assert str(error.value).count("remedy:") == 4


@pytest.mark.parametrize("region", ["", "Frankfurt", "cn-north-1", "us-gov-west-1"])
def test_a_bad_stack_name_and_a_bad_region_are_told_with_the_settings(region: str) -> None:
    with pytest.raises(pulumi.RunError) as error:
        deploy({**LEAST, "zones": ["a"]}, stack="My_Stack", region=region)
    said = str(error.value)
    assert "stack My_Stack" in said
    assert f"aws:region{' = ' + region if region else ''}:" in said
    assert "orthanc:zones" in said
    assert said.count("remedy:") == 3


def test_outputs_are_what_a_person_needs_next() -> None:
    outputs = deployed("dev").outputs
    assert outputs["url"] == "https://192.0.2.10/"
    assert outputs["address"] == "192.0.2.10"
    assert outputs["authority"].startswith("-----BEGIN CERTIFICATE-----")
    assert outputs["passwords"] == {"admin": "generated-secrets-password-admin"}
    assert set(outputs["next"]) >= {"password", "enrol", "trust"}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_outputs_that_hold_a_key_or_a_password_are_secret_and_no_others(scenario: str) -> None:
    assert deployed(scenario).secret_outputs == {"modalities", "passwords"}
