"""How the rehearsal reads what hosts ask of AWS: as the permission that the call needs."""

from __future__ import annotations

import json
from email.message import Message

import pytest

from rehearsal.calls import understood


def _read(method: str, target: str, service: str, body: str = "", action: str = "") -> tuple[str, str, dict[str, object]]:
    headers = Message()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential=ASIAHOST/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
    if action:
        headers["x-amz-target"] = action
    found, named, parameters = understood(method, target, headers, body.encode())
    return found, named, dict(parameters)


def test_json_names_its_action_in_a_header() -> None:
    assert _read("POST", "/", "ssm", json.dumps({"Name": "/orthanc/dev/release"}), "AmazonSSM.GetParameter") == (
        "ssm",
        "GetParameter",
        {"Name": "/orthanc/dev/release"},
    )


def test_a_form_names_its_action_among_its_fields() -> None:
    form = "Action=AssociateAddress&Version=2016-11-15&AllocationId=eipalloc-1&InstanceId=i-1"
    expected = {"Version": "2016-11-15", "AllocationId": "eipalloc-1", "InstanceId": "i-1"}
    assert _read("POST", "/", "ec2", form) == ("ec2", "AssociateAddress", expected)


def test_metrics_are_signed_under_another_name_than_iam_gives_them() -> None:
    assert _read("POST", "/", "monitoring", "{}", "GraniteServiceVersion20100801.PutMetricData")[:2] == ("cloudwatch", "PutMetricData")


@pytest.mark.parametrize(
    ("method", "target", "action"),
    [
        ("GET", "/bucket/release.tar.gz", "GetObject"),
        ("GET", "/bucket/release.tar.gz?versionId=7", "GetObjectVersion"),
        ("HEAD", "/bucket/release.tar.gz", "GetObject"),
        ("PUT", "/bucket/release.tar.gz", "PutObject"),
        ("GET", "/bucket?list-type=2&prefix=r", "ListBucket"),
        ("GET", "/bucket?policy", "GET /bucket?policy"),
    ],
)
def test_s3_is_asked_by_method_and_path(method: str, target: str, action: str) -> None:
    assert _read(method, target, "s3")[:2] == ("s3", action)


def test_s3_parameters_name_bucket_key_and_version() -> None:
    assert _read("GET", "/bucket/a%20b/c?versionId=7", "s3")[2] == {"Bucket": "bucket", "Key": "a b/c", "versionId": "7"}


def test_what_nobody_signed_belongs_to_no_service() -> None:
    assert understood("GET", "/", Message(), b"")[0] == ""
