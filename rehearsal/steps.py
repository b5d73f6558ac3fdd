"""The steps of a rehearsal, in order: each does something to a stack and proves what became of it.

`python -m rehearsal` shows them to a person; tests/engine runs the same ones. A step returns what it found out, in a line.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

from config_templates.model import fingerprint
from rehearsal.laboratory import Laboratory, RehearsalError

PREVIEW_SECONDS = 10  # on 2 cores, said in docs/aws.md
Step = Callable[[Laboratory], str]


def require(condition: object, otherwise: str) -> None:
    if not condition:
        raise RehearsalError(otherwise)


def _both(work: Callable[[str], object]) -> None:
    """Do it to both stacks at once: RDS makes one wait, whatever else happens."""
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(work, stack) for stack in ("dev", "prod")]:
            done.result()


def pointer(lab: Laboratory, stack: str) -> Mapping[str, str]:
    found = lab.aws("ssm").get_parameter(Name=f"/orthanc/{stack}/release")["Parameter"]["Value"]
    told: Mapping[str, str] = json.loads(found)
    return told


def files(lab: Laboratory, at: Mapping[str, str]) -> Mapping[str, str]:
    """The files of the release that a pointer names, its checksum verified."""
    data = lab.aws("s3").get_object(Bucket=at["bucket"], Key=at["key"], VersionId=at["version"])["Body"].read()
    require(sha256(data).hexdigest() == at["sha256"], "the archive is not the one that the pointer names")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {entry.name: (tar.extractfile(entry) or io.BytesIO()).read().decode() for entry in tar}


# -- before anything exists ------------------------------------------------------------------------------------------------


def preview(lab: Laboratory) -> str:
    """Preview both stacks with the guardrails."""
    seconds = []
    for stack in ("dev", "prod"):
        lab.pulumi("stack", "init", stack)
        seconds.append(lab.pulumi("preview", stack=stack).seconds)
        judged = lab.pulumi("preview", "--policy-pack", "policy", stack=stack).said
        require("orthanc-guardrails" in judged, "the policy pack did not run")
    # The better one: the first compiles the program, and other work on this machine is not the program's.
    require(min(seconds) < PREVIEW_SECONDS, f"a preview took {min(seconds):.1f} s, more than {PREVIEW_SECONDS}")
    return f"{seconds[0]:.1f} s for dev, {seconds[1]:.1f} s for prod, no guardrail broken"


def guardrail(lab: Laboratory) -> str:
    """A change that breaks a guardrail is stopped in the preview."""
    path = lab.project / "infra/database.py"
    text = path.read_text(encoding="utf-8")
    try:
        path.write_text(text.replace("publicly_accessible=False", "publicly_accessible=True"), encoding="utf-8")
        told = lab.pulumi("preview", "--policy-pack", "policy", stack="dev", code=None)
    finally:
        path.write_text(text, encoding="utf-8")
    require(told.code != 0, "a public database passed")
    require("the database has a public address" in told.said, f"it was stopped for another reason:\n{told.said[-2000:]}")
    return "a public database was refused: the database has a public address"


def bad_settings(lab: Laboratory) -> str:
    """Bad settings stop it, all at once."""
    path = lab.project / "Pulumi.dev.yaml"
    text = path.read_text(encoding="utf-8")
    try:
        lab.say("dev", zones=["a"], vpcCidr="172.17.0.0/16", instanceType="t2.nano")
        told = lab.pulumi("preview", stack="dev", code=None)
    finally:
        path.write_text(text, encoding="utf-8")
    require(told.code != 0, "bad settings passed")
    for key in ("zones", "vpcCidr", "instanceType"):
        require(f"orthanc:{key}" in told.said, f"{key} is not named:\n{told.said[-2000:]}")
    require("remedy: pulumi config set" in told.said, "no remedy is named")
    require("Traceback" not in told.said, f"a person sees a traceback:\n{told.said[-3000:]}")
    return "three of three named, each with its remedy"


# -- into existence --------------------------------------------------------------------------------------------------------


def up(lab: Laboratory) -> str:
    """Create dev and prod in one account, with the guardrails watching."""
    seconds = {}

    def make(stack: str) -> None:
        missed = {"silentMinutes": 15} if stack == "prod" else {}
        lab.say(stack, modalities=[{"aet": "CT1", "may": ["store"], **missed}])
        seconds[stack] = lab.pulumi("up", "--yes", "--policy-pack", "policy", stack=stack).seconds

    _both(make)
    return f"{seconds['dev']:.0f} s for dev, {seconds['prod']:.0f} s for prod, most of it the provider's wait for RDS"


def unchanged(lab: Laboratory) -> str:
    """Again: no change, no drift, nothing uploaded."""
    before = pointer(lab, "dev"), pointer(lab, "prod")

    def again(stack: str) -> None:
        lab.pulumi("preview", "--expect-no-changes", stack=stack)
        lab.pulumi("refresh", "--yes", "--expect-no-changes", stack=stack)
        lab.pulumi("up", "--yes", "--expect-no-changes", stack=stack)

    _both(again)
    require(before == (pointer(lab, "dev"), pointer(lab, "prod")), "the pointer moved without a change")
    for stack, at in zip(("dev", "prod"), before, strict=True):
        versions = lab.aws("s3").list_object_versions(Bucket=at["bucket"])["Versions"]
        require(len(versions) == 1, f"{stack}: {len(versions)} archives after one release")
    return "0 changes in preview, refresh and up, of both stacks"


def meant(lab: Laboratory) -> str:
    """Ask AWS, with another client, whether what exists is what was meant."""
    checks = 0
    for stack, kept in (("dev", False), ("prod", True)):
        label = f"orthanc-{stack}"
        (database,) = lab.aws("rds").describe_db_instances(DBInstanceIdentifier=label)["DBInstances"]
        (group,) = lab.aws("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[label])["AutoScalingGroups"]
        (hook,) = lab.aws("autoscaling").describe_lifecycle_hooks(AutoScalingGroupName=label)["LifecycleHooks"]
        template = group["LaunchTemplate"]
        version = lab.aws("ec2").describe_launch_template_versions(
            LaunchTemplateId=template["LaunchTemplateId"], Versions=[template["Version"]]
        )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        (address,) = lab.aws("ec2").describe_addresses(Filters=[{"Name": "tag:orthanc:stack", "Values": [stack]}])["Addresses"]
        doors = lab.aws("ec2").describe_security_groups(GroupIds=version["SecurityGroupIds"])["SecurityGroups"][0]
        (guard,) = database["VpcSecurityGroups"]
        wall = lab.aws("ec2").describe_security_groups(GroupIds=[guard["VpcSecurityGroupId"]])["SecurityGroups"][0]
        key = lab.aws("kms").describe_key(KeyId=f"alias/{label}")["KeyMetadata"]
        alarms = lab.aws("cloudwatch").describe_alarms(AlarmNamePrefix=label)["MetricAlarms"]
        bucket = pointer(lab, stack)["bucket"]
        blocks = lab.aws("s3").get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        outputs = lab.outputs(stack)
        settled: Mapping[str, object] = {
            "database encrypted under our key": (database["StorageEncrypted"], database["KmsKeyId"]) == (True, key["Arn"]),
            "database private": database["PubliclyAccessible"] is False,
            "database's zones": database["MultiAZ"] is kept,
            "database's protection": database["DeletionProtection"] is kept,
            "database's password is RDS's": "rds!" in database["MasterUserSecret"]["SecretArn"],
            "database's port": [p["FromPort"] for p in wall["IpPermissions"]] == [5432],
            "database open to the host's group alone": [g["GroupId"] for p in wall["IpPermissions"] for g in p["UserIdGroupPairs"]]
            == version["SecurityGroupIds"]
            and not any(p["IpRanges"] for p in wall["IpPermissions"]),
            "host's ports": sorted(p["FromPort"] for p in doors["IpPermissions"]) == [443, 11112],
            "host's metadata": (version["MetadataOptions"]["HttpTokens"], version["MetadataOptions"]["HttpPutResponseHopLimit"])
            == ("required", 1),
            "host's volume encrypted under our key": version["BlockDeviceMappings"][0]["Ebs"]["KmsKeyId"] == key["Arn"],
            "a group of one": (group["MinSize"], group["MaxSize"], group["DesiredCapacity"]) == (1, 1, 1),
            "the launch hook": (hook["LifecycleTransition"], hook["DefaultResult"], hook["HeartbeatTimeout"])
            == ("autoscaling:EC2_INSTANCE_LAUNCHING", "ABANDON", 3600),
            "the address is the one that was told": address["PublicIp"] == outputs["address"],
            "alarms": len(alarms) >= 9 and all(a["AlarmActions"] for a in alarms),
            "what is counted in the log is watched": sorted(
                (f["logGroupName"], f["metricTransformations"][0]["metricName"])
                for f in lab.aws("logs").describe_metric_filters(filterNamePrefix=label)["metricFilters"]
            )
            == sorted((f"/orthanc/{stack}/containers", a["MetricName"]) for a in alarms if a["Namespace"].startswith("Orthanc/")),
            "a cancelled image is told of": any(a["AlarmName"] == f"{label}-store-cancelled" for a in alarms),
            "a silent modality is missed": kept
            == any(a["TreatMissingData"] == "breaching" and a["AlarmName"] == f"{label}-modality-silent-CT1" for a in alarms),
            "bucket closed": all(blocks.values()),
            "bucket versioned": lab.aws("s3").get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled",
            "release names the database": database["Endpoint"]["Address"] in files(lab, pointer(lab, stack))["orthanc/orthanc.json"],
        }
        wrong = [what for what, holds in settled.items() if not holds]
        require(not wrong, f"{stack}: not as meant: {', '.join(wrong)}")
        checks += len(settled)
    return f"{checks} facts, all as meant"


def secrets(lab: Laboratory) -> str:
    """Search state, previews and releases for every secret, by its value."""
    searched = 0
    known: set[str] = set()
    for stack in ("dev", "prod"):
        text = lab.state(stack, secrets=True)
        known |= set(re.findall(r"PRIVATE KEY-----(?:\\+n|\n)([A-Za-z0-9+/]{40,64})", text))  # a key's first line, however escaped
        for resource in json.loads(text)["deployment"]["resources"]:
            if resource["type"] == "random:index/randomPassword:RandomPassword":
                known.add(json.loads(resource["outputs"]["result"]["plaintext"]))
    manager = lab.aws("secretsmanager")
    for entry in manager.list_secrets()["SecretList"]:
        value = manager.get_secret_value(SecretId=entry["ARN"]).get("SecretString", "")
        if "rds!" in entry["Name"]:
            known.add(json.loads(value)["password"])
    require(len(known) > 20, f"only {len(known)} secrets were found: the search itself is broken")
    places = {"what pulumi printed": "\n".join(lab.said)}
    for stack in ("dev", "prod"):
        places[f"{stack}'s state"] = lab.state(stack)
        places[f"{stack}'s release"] = json.dumps(dict(files(lab, pointer(lab, stack))))
    for where, text in places.items():
        for secret in known:
            searched += 1
            require(secret not in text, f"{where} holds a secret in plain")
    require("-----BEGIN CERTIFICATE-----" in places["dev's release"], "the release is not readable: the search itself is broken")
    return f"{len(known)} secrets, {searched} searches, none found"


# -- change ----------------------------------------------------------------------------------------------------------------


def enrol(lab: Laboratory) -> str:
    """Enrol a modality: only its certificate, the release and the pointer change, and the diff names it."""
    before = pointer(lab, "dev")
    lab.say("dev", modalities=[{"aet": "CT1", "may": ["store"]}, {"aet": "MR7", "may": ["store", "find"]}])
    plan = lab.plan("dev")
    certificate = {name for name in plan if "MR7" in name}
    others = set(plan) - certificate - {"orthanc-dev"}
    require(others == {"release", "release-archive", "release-pointer"}, f"more would change: {sorted(others)}")
    require(len(certificate) == 1, f"certificate: {sorted(certificate)}")
    diff = lab.pulumi("preview", "--diff", stack="dev").said
    lines = [line for line in diff.splitlines() if "MR7" in line and ";" in line]
    require(lines, f"the diff does not show nginx's new line for MR7:\n{diff[-6000:]}")
    took = lab.pulumi("up", "--yes", stack="dev").seconds
    now = files(lab, pointer(lab, "dev"))
    bundle = lab.outputs("dev")["modalities"]["MR7"]["1"]
    require(f'{fingerprint(bundle["certificate"])} "MR7";' in now["nginx/nginx.conf"], "the allow-list lacks the new certificate")
    require("MR7" not in files(lab, before)["nginx/nginx.conf"], "the archive before is gone")
    return f"{took:.0f} s; the diff shows: {lines[0].strip()}"


def renew(lab: Laboratory) -> str:
    """Renew a modality with overlap, then strike its old certificate."""
    mr7 = {"aet": "MR7", "may": ["store", "find"]}
    old = fingerprint(lab.outputs("dev")["modalities"]["CT1"]["1"]["certificate"])
    other = fingerprint(lab.outputs("dev")["modalities"]["MR7"]["1"]["certificate"])
    lab.say("dev", modalities=[{"aet": "CT1", "may": ["store"], "certificates": [1, 2]}, mr7])
    lab.pulumi("up", "--yes", stack="dev")
    new = fingerprint(lab.outputs("dev")["modalities"]["CT1"]["2"]["certificate"])
    conf = files(lab, pointer(lab, "dev"))["nginx/nginx.conf"]
    require(all(f'{print_} "CT1";' in conf for print_ in (old, new)), "old and new don't overlap")
    lab.say("dev", modalities=[{"aet": "CT1", "may": ["store"], "certificates": [2]}, mr7])
    lab.pulumi("up", "--yes", stack="dev")
    conf = files(lab, pointer(lab, "dev"))["nginx/nginx.conf"]
    require(old not in conf, "the old certificate still lets CT1 in")
    require(new in conf and other in conf, "another certificate was lost")
    return "old and new let it in together, then the new one alone; the other modality kept its own"


def grow(lab: Laboratory) -> str:
    """Change the instance type: another template version, the host is replaced, the database is not touched."""

    def version() -> str:
        (group,) = lab.aws("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=["orthanc-dev"])["AutoScalingGroups"]
        found: str = group["LaunchTemplate"]["Version"]
        return found

    before = version()
    lab.say("dev", instanceType="t4g.medium")
    plan = {name: op for name, op in lab.plan("dev").items() if name != "orthanc-dev"}
    # The containers may use the new memory: so the release changes too.
    wanted = {"host-template", "host-group", "release", "release-archive", "release-pointer"}
    require(set(plan) <= wanted and {"host-template", "host-group"} <= set(plan), f"would change: {plan}")
    require(all(op == "update" for op in plan.values()), f"would replace something: {plan}")
    lab.pulumi("up", "--yes", stack="dev")
    after = version()
    require(int(after) == int(before) + 1, f"the group follows version {after}, before {before}")
    refreshes = lab.aws("autoscaling").describe_instance_refreshes(AutoScalingGroupName="orthanc-dev")["InstanceRefreshes"]
    rolled_out = [refresh["StatusReason"] for refresh in refreshes]
    require(rolled_out == [f"launch template version {after}"], f"the instance refreshes were {rolled_out}")
    return f"template version {before} became {after}, and one instance refresh rolled it out"


# -- out of existence ------------------------------------------------------------------------------------------------------


def refuse(lab: Laboratory) -> str:
    """A kept stack refuses to be destroyed, and says how."""
    told = lab.pulumi("destroy", "--yes", stack="prod", code=None)
    require(told.code != 0, "prod was destroyed")
    require("protected" in told.said and "unprotect" in told.said, f"it does not say why, or how:\n{told.said[-2000:]}")
    require(lab.aws("rds").describe_db_instances(DBInstanceIdentifier="orthanc-prod")["DBInstances"], "the database is gone")
    named = set(re.findall(r"::([\w-]+)\" cannot be deleted", told.said))
    # The engine stops at the first few, whichever they are.
    require(named, f"it does not name what is protected:\n{told.said[-2000:]}")
    return f"it names {', '.join(sorted(named))} as protected, and how to unprotect each; nothing was deleted"


def leave(lab: Laboratory) -> str:
    """Destroy dev; say keep: false to prod, then destroy it too; ask AWS what is left."""

    def out(stack: str) -> None:
        if stack == "prod":
            lab.say("prod", keep=False)
            lab.pulumi("up", "--yes", stack="prod")
        lab.pulumi("destroy", "--yes", stack=stack)

    _both(out)
    left: Mapping[str, object] = {
        "databases": lab.aws("rds").describe_db_instances()["DBInstances"],
        "groups": lab.aws("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"],
        "hosts": [
            i
            for r in lab.aws("ec2").describe_instances()["Reservations"]
            for i in r["Instances"]
            if i["State"]["Name"] not in ("terminated", "shutting-down")
        ],
        "addresses": lab.aws("ec2").describe_addresses()["Addresses"],
        "buckets": lab.aws("s3").list_buckets()["Buckets"],
        "secrets": [s for s in lab.aws("secretsmanager").list_secrets()["SecretList"] if "rds!" not in s["Name"]],
        "parameters": lab.aws("ssm").get_parameters_by_path(Path="/orthanc/", Recursive=True)["Parameters"],
        "log groups": lab.aws("logs").describe_log_groups()["logGroups"],
        "alarms": lab.aws("cloudwatch").describe_alarms()["MetricAlarms"],
        "keys": [
            k
            for k in lab.aws("kms").list_keys()["Keys"]
            if (m := lab.aws("kms").describe_key(KeyId=k["KeyId"])["KeyMetadata"])["KeyManager"] == "CUSTOMER"
            and m["KeyState"] != "PendingDeletion"
        ],
    }
    rest = {what: len(things) for what, things in left.items() if isinstance(things, list) and things}
    require(not rest, f"left behind: {rest}")
    return f"nothing left among {', '.join(left)} (keys wait 7 days for their deletion)"


STEPS: tuple[Step, ...] = (preview, guardrail, bad_settings, up, unchanged, meant, enrol, renew, grow, secrets, refuse, leave)
