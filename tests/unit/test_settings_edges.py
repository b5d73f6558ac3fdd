"""Where each setting's rule begins: the last value that is taken, and the first one that is not."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from pydantic import ValidationError

from infra import settings
from infra.settings import Settings, SettingsError, wide
from tests.unit.recording import request, web_certificate
from tests.unit.test_settings import complaint, load, modality


def _said(**changes: object) -> str:
    """What is complained about, or nothing."""
    try:
        load(**changes)
    except SettingsError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("key", "lowest", "highest"),
    [
        ("volumeGb", 16, 1000),
        ("hostDays", 1, 365),
        ("databaseStorageGb", 20, 65536),
        ("databaseLimitGb", 26, 65536),
        ("backupDays", 1, 35),
        ("modalityDays", 30, 3650),
        ("dicomPort", 1, 65535),
        ("webPort", 1, 65535),
        *((f"{what}", 1, 9999) for what in ("outsideAuthority", "insideAuthority", "serverCertificate", "outgoingCertificate")),
        ("insideCertificates", 1, 9999),
    ],
)
def test_a_number_has_a_lowest_and_a_highest_value(key: str, lowest: int, highest: int) -> None:
    for value in (lowest, highest):
        assert f"orthanc:{key} =" not in _said(**{key: str(value)})
    for value in (lowest - 1, highest + 1):
        assert f"orthanc:{key} = {value}: Input should be" in _said(**{key: str(value)})


@pytest.mark.parametrize(("minutes", "fine"), [(0, False), (5, True), (6, False), (10, True), (1440, True), (1445, False)])
def test_a_silence_is_counted_in_fives_up_to_a_day(minutes: int, fine: bool) -> None:
    assert bool(_said(modalities=[modality(silentMinutes=minutes)])) is not fine


@pytest.mark.parametrize(
    ("vpc", "why"),
    [
        ("10.0.0.0/16", ""),
        ("10.0.0.0/24", ""),
        ("172.16.0.0/16", ""),
        ("100.64.0.0/20", ""),
        ("10.0.0.0/15", "/16"),
        ("10.0.0.0/25", "/24"),
        ("11.0.0.0/16", "private"),
        *(
            (f"{net}/16", "Docker")
            for net in ("172.17.0.0", "172.18.0.0", "172.19.0.0", "172.20.0.0", "172.24.0.0", "172.31.0.0", "192.168.0.0")
        ),
    ],
)
def test_the_vpc_is_private_of_awss_size_and_clear_of_docker(vpc: str, why: str) -> None:
    said = _said(vpcCidr=vpc)
    assert why in said
    assert bool(said) is bool(why), said


@pytest.mark.parametrize(("zones", "fine"), [("a", False), ("ab", True), ("abcd", True), ("abcde", False), ("ag", False), ("aa", False)])
def test_there_are_two_to_four_zones(zones: str, fine: bool) -> None:
    assert bool(_said(zones=list(zones))) is not fine


@pytest.mark.parametrize(("network", "open_"), [("8.0.0.0/8", False), ("8.0.0.0/7", True), ("16.0.0.0/5", True), ("0.0.0.0/0", True)])
@pytest.mark.parametrize("key", ["dicomCidrs", "webCidrs"])
def test_a_network_of_more_than_an_eighth_of_the_bits_is_the_internet(key: str, network: str, open_: bool) -> None:
    assert wide(IPv4Network(network)) is open_
    assert _said(**{key: [network]}, openToTheWorld="true") == ""
    assert ("opens the port to the whole internet" in _said(**{key: [network]})) is open_


@pytest.mark.parametrize(("storage", "limit", "fine"), [(100, 126, True), (100, 125, False), (20, 26, True)])
def test_the_database_can_grow_by_26_percent(storage: int, limit: int, fine: bool) -> None:
    assert bool(_said(databaseStorageGb=str(storage), databaseLimitGb=str(limit))) is not fine


@pytest.mark.parametrize(
    ("changes", "where", "why"),
    [
        ({"dicomCidrs": ["198.51.100.0/24"] * 2}, "dicomCidrs", "twice"),
        ({"webCidrs": ["198.51.100.0/24"] * 2}, "webCidrs", "twice"),
        ({"modalities": [modality(may=["store", "store"])]}, "modalities[0].may", "twice"),
        ({"modalities": [modality(may=["store", "stor"])]}, "modalities[0].may[1]", "store"),
        ({"modalities": [modality(certificates=[])]}, "modalities[0].certificates", "at least 1 item"),
        ({"modalities": [modality(certificates=[0])]}, "modalities[0].certificates[0]", "greater than or equal to 1"),
        ({"modalities": [modality(certificates=[10000])]}, "modalities[0].certificates[0]", "less than or equal to 9999"),
        ({"modalities": [modality(rights=["store"])]}, "modalities[0].rights", "Extra inputs"),
        ({"modalities": [modality(aet="PROBE")]}, "modalities", "host's own proof"),
        ({"modalities": [modality(aet="probe")]}, "modalities", "host's own proof"),
        ({"aet": "PROBE"}, "aet", "host's own proof"),
        ({"aet": "probe"}, "aet", "host's own proof"),
        ({"users": [{"name": "a", "role": "admin"}] * 2}, "users", "names a user twice"),
        ({"users": [{"name": "a", "role": "admin"}, {"name": "host", "role": "reader"}]}, "users", "health check"),
        ({"composeSha256Arm64": "A" * 64}, "composeSha256Arm64", "64 lower-case hex digits"),
        ({"composeSha256X8664": "a" * 63}, "composeSha256X8664", "64 lower-case hex digits"),
        ({"databaseAuthorityUrl": "http://example.org/x"}, "databaseAuthorityUrl", "https"),
        ({"databaseAuthorityUrl": "https://example.org/"}, "databaseAuthorityUrl", "https"),
        ({"restoreFrom": "No Snapshot"}, "restoreFrom", ""),
        ({"webCertificateKey": web_certificate().key}, "webCertificate", "needs webCertificateKey"),
    ],
)
def test_refused(changes: dict[str, object], where: str, why: str) -> None:
    said = complaint(**changes)
    assert said.startswith((f"orthanc:{where}:", f"orthanc:{where} =")), said
    assert why in said
    assert said.count("remedy:") == 1, said


def test_a_request_belongs_to_one_certificate() -> None:
    own = request("ct1.modality.orthanc")
    said = complaint(modalities=[modality(certificates=[1, 2], requests={"1": own, "2": own})])
    assert "uses one certificate request twice" in said


def test_accepted_is_what_looks_like_something_that_is_refused() -> None:
    assert load(modalities=[modality(address="198.51.100.9", port=104)]).modalities[0].port == 104
    assert load(modalities=[modality(aet="PROBE1"), modality(aet="APROBE")]).modalities
    assert load(modalities=[modality(certificates=[1, 9999])]).modalities
    assert load(databaseAuthorityUrl="https://example.org/a/b-c.pem").database_authority_url


def test_settings_that_were_judged_can_not_be_changed() -> None:
    judged = load()
    name = "keep"
    with pytest.raises(ValidationError):
        setattr(judged, name, False)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 80, "x" * 80),
        ("x" * 81, f"{'x' * 77}..."),
        ("a\nb", "a..."),
        ("", "''"),
        (["a"], '["a"]'),
        ([IPv4Address("192.0.2.1")], '["192.0.2.1"]'),
    ],
)
def test_a_value_in_a_message_is_one_short_line(value: object, shown: str) -> None:
    assert settings._shown("aet", value, ()) == shown


def test_the_key_of_the_web_certificate_is_in_no_message() -> None:
    assert settings._shown("webCertificateKey", "hunter2", ()) is None
    assert settings._shown("aet", "hunter2", ("orthanc:aet",)) is None
    assert settings._shown("aet", None, ()) is None


def test_a_remedy_is_a_line_that_can_be_typed() -> None:
    assert complaint(volumeGb="1").endswith("remedy: pulumi config set orthanc:volumeGb 20")
    with pytest.raises(SettingsError) as error:
        Settings.load({"orthanc:webCertificateKey": "x", "orthanc:dicomCidrs": '["192.0.2.0/24"]', "orthanc:webCidrs": '["192.0.2.0/24"]'})
    assert "remedy: pulumi config set --secret orthanc:webCertificateKey < key.pem" in str(error.value)
    assert all(field.examples and field.description for field in Settings.model_fields.values())
