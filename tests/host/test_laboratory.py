"""The laboratory that hosts are tested in: it must fail when AWS would, or what passes in it says nothing."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256

import pytest

from laptop.docker import docker
from rehearsal.calls import How
from rehearsal.cloud import Cloud
from rehearsal.hosts import Host
from rehearsal.laboratory import Laboratory

STACK = "try"
GROUP = f"orthanc-{STACK}"
LOGS = f"/orthanc/{STACK}/containers"
USER_DATA = "#cloud-config\npackages: [docker.io]\nruncmd: [[sh, -c, 'echo told $((6 * 7))']]\n"
RELEASE = b"a release " * 1000


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with Laboratory() as lab, Cloud(lab) as cloud:
        _make_stack(lab)
        yield cloud


def _make_stack(lab: Laboratory) -> None:
    """What a host meets, without the engine, whose provider waits minutes for a database."""
    tags = [{"Key": "orthanc:stack", "Value": STACK}]
    ec2 = lab.aws("ec2")
    ec2.allocate_address(Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": tags}])
    template = ec2.create_launch_template(
        LaunchTemplateName=GROUP,
        LaunchTemplateData={"InstanceType": "t4g.small", "ImageId": "ami-1", "UserData": base64.b64encode(USER_DATA.encode()).decode()},
    )["LaunchTemplate"]
    lab.aws("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=GROUP,
        MinSize=1,
        MaxSize=1,
        VPCZoneIdentifier=ec2.describe_subnets()["Subnets"][0]["SubnetId"],
        LaunchTemplate={"LaunchTemplateId": template["LaunchTemplateId"], "Version": "1"},
    )
    lab.aws("rds").create_db_instance(
        DBInstanceIdentifier=GROUP,
        DBInstanceClass="db.t4g.micro",
        Engine="postgres",
        AllocatedStorage=20,
        MasterUsername="orthanc",
        ManageMasterUserPassword=True,
    )
    lab.aws("ssm").put_parameter(Name=f"/orthanc/{STACK}/release", Type="String", Value="here")
    lab.aws("logs").create_log_group(logGroupName=LOGS)
    lab.aws("s3").create_bucket(Bucket="releases")
    lab.aws("s3").put_object(Bucket="releases", Key="release", Body=RELEASE)


@pytest.fixture(scope="module")
def host(cloud: Cloud) -> Host:
    host = cloud.launch(STACK)
    host.booted()
    return host


@pytest.fixture(scope="module")
def psql(cloud: Cloud, host: Host) -> str:
    """An image with PostgreSQL's client, as hosts know it."""
    image = cloud.registry.push(cloud.images.postgres, "postgres")
    host.run("docker", "pull", "--quiet", image)
    return image


def _metadata(host: Host, path: str) -> str:
    token = host.run(
        "curl", "-sSfX", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60", "http://169.254.169.254/latest/api/token"
    ).stdout
    return host.run("curl", "-sSf", "-H", f"X-aws-ec2-metadata-token: {token}", f"http://169.254.169.254/latest/{path}").stdout


def _parameter(host: Host) -> tuple[int, str]:
    words = (
        "timeout",
        "10",
        "aws",
        "ssm",
        "get-parameter",
        "--name",
        f"/orthanc/{STACK}/release",
        "--query",
        "Parameter.Value",
        "--output",
        "text",
    )
    told = host.run("env", "AWS_MAX_ATTEMPTS=1", *words, check=False)
    return told.returncode, told.stdout.strip() or told.stderr


def _object(host: Host) -> tuple[int, str]:
    words = ("aws", "s3api", "get-object", "--bucket", "releases", "--key", "release", "/root/release")
    told = host.run("env", "AWS_MAX_ATTEMPTS=1", *words, check=False)
    return told.returncode, host.run("sha256sum", "/root/release").stdout.split()[0]


def test_a_host_does_what_the_user_data_of_its_template_say(host: Host) -> None:
    assert "told 42" in host.log()
    assert "DataSourceEc2" in host.run("cloud-id").stdout + host.read("/run/cloud-init/status.json")
    assert host.run("systemctl", "is-active", "docker").stdout == "active\n"


def test_the_metadata_want_a_token_and_tell_the_instance_who_it_is(host: Host) -> None:
    assert host.run("curl", "-so", "/dev/null", "-w", "%{http_code}", "http://169.254.169.254/latest/meta-data/instance-id").stdout == "401"
    assert _metadata(host, "meta-data/instance-id") == host.id
    assert json.loads(_metadata(host, "dynamic/instance-identity/document"))["instanceId"] == host.id
    assert _metadata(host, "meta-data/autoscaling/target-lifecycle-state") == "InService"


def test_calls_are_written_down_with_who_made_them(cloud: Cloud, host: Host) -> None:
    before = len(cloud.asked(host))
    assert _parameter(host) == (0, "here")
    cloud.lab.aws("ssm").get_parameter(Name=f"/orthanc/{STACK}/release")  # no host: it does not pass by
    (call,) = cloud.asked(host)[before:]
    assert (str(call), call.parameters["Name"], call.status) == ("ssm:GetParameter", f"/orthanc/{STACK}/release", 200)


@pytest.mark.parametrize(
    ("how", "says"), [("reset", "Connection was closed"), ("hang", ""), ("unavailable", "ServiceUnavailable"), ("denied", "AccessDenied")]
)
def test_a_service_fails_alone(cloud: Cloud, host: Host, how: How, says: str) -> None:
    with cloud.away("ssm:GetParameter", how=how):
        code, said = _parameter(host)
        assert (code != 0, says in said) == (True, True), said
        assert _object(host) == (0, sha256(RELEASE).hexdigest())
    assert _parameter(host) == (0, "here")


def test_an_object_arrives_cut_off_or_wrong(cloud: Cloud, host: Host) -> None:
    with cloud.truncated("s3"):
        assert _object(host)[0] != 0
    with cloud.corrupted("s3"):
        code, found = _object(host)
    assert code == 0, "the reader's own check is what shall find it"
    assert found != sha256(RELEASE).hexdigest()


def test_files_come_over_https_from_an_authority_that_hosts_trust(cloud: Cloud, host: Host) -> None:
    cloud.files["/a/file"] = b"content"
    assert host.run("curl", "-sSf", "https://files.rehearsal.test/a/file").stdout == "content"
    del cloud.files["/a/file"]
    assert host.run("curl", "-sSf", "https://files.rehearsal.test/a/file", check=False).returncode == 22


def test_a_container_reaches_the_database_by_verified_tls_alone(cloud: Cloud, host: Host, psql: str) -> None:
    database = cloud.database(STACK)
    (emulated,) = cloud.lab.aws("rds").describe_db_instances()["DBInstances"]
    host.run("tee", "/root/rds.pem", stdin=cloud.rds_authority.certificate)

    def ask(mode: str) -> str:
        secret = cloud.lab.aws("secretsmanager").get_secret_value(SecretId=emulated["MasterUserSecret"]["SecretArn"])
        login = json.loads(secret["SecretString"])
        where = f"host={emulated['Endpoint']['Address']} dbname=orthanc user={login['username']} sslmode={mode} sslrootcert=/rds.pem"
        within = ("--env", f"PGPASSWORD={login['password']}", "--volume", "/root/rds.pem:/rds.pem:ro", "--entrypoint", "psql", psql)
        question = "select extname from pg_extension where extname = 'pg_trgm'"
        told = host.run("docker", "run", "--rm", *within, where, "-Atc", question, check=False)
        return told.stdout.strip() + told.stderr

    database.sql("SET ROLE orthanc; CREATE EXTENSION pg_trgm; RESET ROLE")
    assert ask("verify-full") == "pg_trgm"
    assert "no encryption" in ask("disable")
    database.rotate()
    assert ask("verify-full") == "pg_trgm", "the secret has the new password"
    database.restart()
    assert ask("verify-full") == "pg_trgm", "what was committed is there after a failover"


def test_no_container_reaches_the_metadata(host: Host, psql: str) -> None:
    words = ("docker", "run", "--rm", "--entrypoint", "timeout", psql, "3", "bash", "-c", "echo >/dev/tcp/169.254.169.254/80")
    assert host.run(*words, check=False).returncode == 124, "one hop is what the launch template allows"


def test_containers_log_to_cloudwatch(cloud: Cloud, host: Host, psql: str) -> None:
    options = {"mode": "non-blocking", "awslogs-region": "us-east-1", "awslogs-group": LOGS, "awslogs-stream": "said"}
    words = [word for key, value in options.items() for word in ("--log-opt", f"{key}={value}")]
    host.run("docker", "run", "--detach", "--name", "said", "--log-driver", "awslogs", *words, "--entrypoint", "echo", psql, "a line")
    end = time.monotonic() + 30
    while not [call for call in cloud.asked(host) if str(call) == "logs:PutLogEvents"]:
        assert time.monotonic() < end, host.journal("docker")[-2000:]
        time.sleep(0.5)
    events = cloud.lab.aws("logs").get_log_events(logGroupName=LOGS, logStreamName="said")["events"]
    assert [event["message"] for event in events] == ["a line"]


def test_a_reboot_keeps_the_disk_and_forgets_run(host: Host) -> None:
    host.run("sh", "-c", "echo kept >/root/kept; echo gone >/run/gone")
    for hard in (False, True):
        host.reboot(hard=hard)
        host.booted()
        assert host.read("/root/kept") == "kept\n"
        assert host.run("test", "-e", "/run/gone", check=False).returncode == 1
        host.until("docker", "info", seconds=60)


def test_a_replacement_takes_the_address_along(cloud: Cloud, host: Host) -> None:
    ec2, scaling = cloud.lab.aws("ec2"), cloud.lab.aws("autoscaling")
    address = cloud.address(STACK, 11112)

    def greets() -> str:
        return subprocess.run(["curl", "-sS", "-m", "5", f"http://{address}:11112/"], capture_output=True, text=True, check=False).stdout

    def serve(server: Host) -> None:
        server.run("sh", "-c", f"mkdir -p /srv/w && echo {server.id} >/srv/w/index.html")
        server.run("systemd-run", "--working-directory", "/srv/w", "python3", "-m", "http.server", "11112")
        server.until("curl", "-sSf", "http://127.0.0.1:11112/", seconds=20)
        ec2.associate_address(InstanceId=server.id, AllocationId=ec2.describe_addresses()["Addresses"][0]["AllocationId"])

    assert greets() == ""
    serve(host)
    assert greets() == f"{host.id}\n"
    scaling.set_instance_health(InstanceId=host.id, HealthStatus="Unhealthy")
    second = cloud.replace(STACK)
    assert _metadata(host, "meta-data/autoscaling/target-lifecycle-state") == "Terminated"
    causes = [
        a["Cause"] for a in scaling.describe_scaling_activities(AutoScalingGroupName=GROUP)["Activities"] if host.id in a["Description"]
    ]
    assert "in response to a user health-check" in causes[0]
    host.kill()
    assert (cloud.holder(STACK), greets()) == (None, "")
    second.booted()
    serve(second)
    assert greets() == f"{second.id}\n"


def test_nothing_of_it_stays() -> None:
    def there(kind: str, *words: str) -> set[str]:
        return set(docker(kind, "ls", "--quiet", *words).split())

    def everything() -> list[set[str]]:
        return [there("container", "--all"), there("network"), there("volume"), there("image", "--filter", "reference=rehearsal-*-host")]

    before = everything()
    with Laboratory() as lab, Cloud(lab) as cloud:
        _make_stack(lab)
        cloud.launch(STACK)
        cloud.database(STACK)
        assert [now > then for now, then in zip(everything(), before, strict=True)] == [True] * 4
    assert everything() == before
