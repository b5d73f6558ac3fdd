"""What Orthanc is told: every value that keeps somebody out, the way to its database, and what each modality may do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from config_templates import Service, orthanc, places, render
from config_templates.routing import outgoing_ports
from tests.rendering.scenarios import SCENARIOS, Json, every_scenario, given, modalities_of, orthanc_of

_KEYS: Mapping[str, Mapping[str, str]] = json.loads((Path(__file__).parent / "orthanc_keys.json").read_text(encoding="utf-8"))
_HOME = places.MOUNTS["orthanc"][1]


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _strings(key)
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


# -- keys: one that Orthanc does not know is ignored in silence ------------------------------------------------------------


@every_scenario
def test_every_key_of_orthancs_configuration_exists_in_the_pinned_release(service: Service) -> None:
    rendered = orthanc_of(service)
    assert rendered.keys() - _KEYS["orthanc.json"].keys() == set()
    assert rendered["PostgreSQL"].keys() - _KEYS["PostgreSQL"].keys() == set()
    assert rendered["DicomWeb"].keys() - _KEYS["DicomWeb"].keys() == set()


def test_the_list_of_keys_is_the_vocabulary_of_a_release_and_not_of_what_is_rendered() -> None:
    rendered = orthanc_of(SCENARIOS["many"])
    assert len(_KEYS["orthanc.json"]) > 2 * len(rendered)
    assert "EnableSSL" not in _KEYS["PostgreSQL"]
    assert all(
        re.match(r"(Orthanc 1\.13\.0|PostgreSQL plugin 10\.3|DICOMweb plugin 1\.24), ", s) for k in _KEYS.values() for s in k.values()
    )


def test_every_key_of_a_modality_exists_in_the_pinned_release() -> None:
    for properties in modalities_of(SCENARIOS["many"]).values():
        assert properties.keys() - _KEYS["modality"].keys() == set()


def _as_orthanc_answers(properties: Json) -> Json:
    """What GET /modalities?expand says after a PUT of `properties` (RemoteModalityParameters: UnserializeObject, Serialize)."""
    known = {key: value for key, value in properties.items() if key in _KEYS["modality"]}
    allow = known.pop("AllowStorageCommitment", None)
    if allow is not None:
        known |= {"AllowNAction": allow, "AllowEventReport": allow}
    return {"AllowNAction": True, "AllowEventReport": True, **known}


def test_a_modality_that_orthanc_already_knows_is_found_equal_by_the_probe() -> None:
    for properties in modalities_of(SCENARIOS["many"]).values():
        answered = _as_orthanc_answers(properties)
        assert {key for key, value in properties.items() if answered.get(key) != value} == set()
        assert properties.keys() <= _KEYS["modality as GET /modalities?expand answers"].keys()


# -- values ---------------------------------------------------------------------------------------------------------------

_SECURE: Json = {
    "RemoteAccessAllowed": True,
    "AuthenticationEnabled": True,
    "SslEnabled": True,
    "SslCertificate": "/etc/orthanc/orthanc.pem",
    "SslMinimumProtocolVersion": 4,
    "SslVerifyPeers": True,
    "SslTrustedClientCertificates": "/etc/orthanc/inside-authority.crt",
    "HttpsVerifyPeers": True,
    "ExecuteLuaEnabled": False,
    "LuaScripts": [],
    "RestApiWriteToFileSystemEnabled": False,
    "WebDavEnabled": False,
    "WebDavDeleteAllowed": False,
    "WebDavUploadAllowed": False,
    "DicomCheckCalledAet": True,
    "StrictAetComparison": True,
    "DicomCheckModalityHost": False,  # every peer has nginx's address
    "DicomModalitiesInDatabase": True,
    "DicomAlwaysAllowEcho": False,
    "DicomAlwaysAllowStore": False,
    "DicomAlwaysAllowFind": False,
    "DicomAlwaysAllowFindWorklist": False,
    "DicomAlwaysAllowGet": False,
    "DicomAlwaysAllowMove": False,
    "DicomTlsEnabled": True,
    "DicomTlsCertificate": "/etc/orthanc/orthanc.crt",
    "DicomTlsPrivateKey": "/etc/orthanc/orthanc.key",
    "DicomTlsTrustedCertificates": "/etc/orthanc/inside-authority.crt",
    "DicomTlsRemoteCertificateRequired": True,
    "DicomTlsMinimumProtocolVersion": 4,
    "MaximumPduLength": 131072,  # the largest that it takes
    "SaveJobs": False,
    "DeidentifyLogs": True,
    "HttpPort": places.ORTHANC_HTTPS_PORT,
    "DicomPort": places.ORTHANC_DICOM_PORT,
}


@every_scenario
@pytest.mark.parametrize("key", _SECURE)
def test_every_setting_that_keeps_somebody_out_has_its_value(service: Service, key: str) -> None:
    value = orthanc_of(service)[key]
    assert value == _SECURE[key]
    assert type(value) is type(_SECURE[key])  # 1 is no true, to Orthanc


@every_scenario
def test_nothing_is_rendered_that_would_widen_what_is_allowed(service: Service) -> None:
    # Users and peers come from the host alone; these have safe defaults, or come from the image.
    forbidden = {
        "RegisteredUsers",
        "DicomModalities",
        "OrthancPeers",
        "Plugins",
        "PythonScript",
        "HttpVerbose",
        "UserContentType",
        "Pkcs11",
    }
    assert not forbidden & orthanc_of(service).keys()


@every_scenario
def test_only_ciphers_with_forward_secrecy_and_authenticated_encryption_are_accepted(service: Service) -> None:
    rendered = orthanc_of(service)
    for cipher in rendered["SslCiphersAccepted"]:
        assert re.fullmatch(r"ECDHE-(RSA|ECDSA)-(AES(128|256)-GCM-SHA\d+|CHACHA20-POLY1305)", cipher)
    for cipher in rendered["DicomTlsCiphersAccepted"]:
        assert re.fullmatch(r"TLS_(AES_(128|256)_GCM|CHACHA20_POLY1305)_SHA\d+", cipher) or cipher in rendered["SslCiphersAccepted"]
    # Every such one that OpenSSL has by default for keys as ours and scanners' (RSA) and for P-256: peers choose.
    modes = ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    tls13 = {f"TLS_{mode}" for mode in ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")}
    assert set(rendered["SslCiphersAccepted"]) == {f"ECDHE-{key}-{mode}" for key in ("ECDSA", "RSA") for mode in modes}
    assert set(rendered["DicomTlsCiphersAccepted"]) == tls13 | set(rendered["SslCiphersAccepted"])


@every_scenario
def test_the_service_has_its_name_in_every_place_and_a_fixed_identity_in_the_database(service: Service) -> None:
    rendered = orthanc_of(service)
    assert rendered["Name"] == rendered["DicomAet"] == service.aet
    assert rendered["DatabaseServerIdentifier"] == service.project


@every_scenario
def test_index_and_pixels_are_in_postgresql_and_its_lock_would_not_stop_a_replacement(service: Service) -> None:
    section = orthanc_of(service)["PostgreSQL"]
    assert {key: section[key] for key in section if key != "ConnectionUri"} == {
        "EnableIndex": True,
        "EnableStorage": True,
        "Lock": False,
        "IndexConnectionsCount": service.database.index_connections,
        "TransactionMode": "ReadCommitted",
        "EnableVerboseLogs": False,
    }


@every_scenario
def test_two_orthancs_fit_into_what_the_laptops_database_bears(service: Service) -> None:
    if service.postgres is None:
        return
    (allowed,) = re.findall(r"^max_connections = (\d+)$", render(service)["postgres/postgresql.conf"], re.MULTILINE)
    reserved_for_superusers = 3
    assert 2 * (orthanc_of(service)["PostgreSQL"]["IndexConnectionsCount"] + 1) <= int(allowed) - reserved_for_superusers


@every_scenario
def test_the_database_is_reached_by_verified_tls_with_a_password_from_a_file(service: Service) -> None:
    uri = urlsplit(orthanc_of(service)["PostgreSQL"]["ConnectionUri"])
    options = parse_qs(uri.query, strict_parsing=True)
    assert uri.scheme == "postgresql"
    assert (uri.hostname, uri.port) == (service.database.host, service.database.port)
    assert (uri.username, uri.path) == (service.database.user, f"/{service.database.name}")
    assert uri.password is None
    assert not {"password", "host", "hostaddr", "user", "dbname", "sslkey"} & options.keys()
    assert options["sslmode"] == ["verify-full"]
    assert options["sslrootcert"] == ["/etc/orthanc/database-authority.crt"]
    assert options["application_name"] == ["orthanc"]
    assert options["passfile"] == ["/etc/orthanc/pgpass"]
    assert options["ssl_min_protocol_version"] == ["TLSv1.2"]
    assert all(len(values) == 1 for values in options.values())


@every_scenario
def test_a_dead_database_is_noticed_and_a_standby_is_not_written_to(service: Service) -> None:
    options = parse_qs(urlsplit(orthanc_of(service)["PostgreSQL"]["ConnectionUri"]).query)
    assert options["target_session_attrs"] == ["read-write"]
    assert 1 <= int(options["connect_timeout"][0]) <= 10
    idle, interval, count = (int(options[f"keepalives_{name}"][0]) for name in ("idle", "interval", "count"))
    assert idle + interval * count <= 60
    assert int(options["tcp_user_timeout"][0]) <= 30000


@every_scenario
def test_dicomweb_is_on_at_its_usual_addresses_and_speaks_of_https(service: Service) -> None:
    section = {"Enable": True, "Root": "/dicom-web/", "EnableWado": True, "WadoRoot": "/wado", "Ssl": True}
    assert orthanc_of(service)["DicomWeb"] == section


@every_scenario
def test_the_bounds_of_the_site_reach_orthanc(service: Service) -> None:
    rendered = orthanc_of(service)
    assert rendered["DicomThreadsCount"] == service.limits.dicom_threads
    assert rendered["DicomScpTimeout"] == service.limits.idle_association_seconds


def test_a_database_at_an_ipv6_address_is_found_too() -> None:
    service = SCENARIOS["aws"]
    moved = given(service, database=service.database.model_copy(update={"host": "2001:db8::5"}))
    uri = urlsplit(orthanc.connection_uri(moved))
    assert (uri.hostname, uri.port) == ("2001:db8::5", 5432)


@every_scenario
def test_no_value_would_be_taken_from_an_environment(service: Service) -> None:
    files = render(service)
    for name in ("orthanc/orthanc.json", "probe/modalities.json"):
        assert not [text for text in _strings(json.loads(files[name])) if "$" in text]


@every_scenario
def test_every_file_that_orthanc_is_told_of_is_put_there_by_the_host(service: Service) -> None:
    present = {f"{_HOME}/{name}" for name in places.SECRETS["orthanc"]}
    named = {path for text in _strings(orthanc_of(service)) for path in re.findall(r"/etc/[\w./-]+", text)}
    assert named
    assert named <= present


# -- modalities -----------------------------------------------------------------------------------------------------------

_RIGHTS = {
    "store": "AllowStore",
    "find": "AllowFind",
    "worklist": "AllowFindWorklist",
    "get": "AllowGet",
    "move": "AllowMove",
}


@every_scenario
def test_every_modality_may_echo_and_exactly_what_it_was_given(service: Service) -> None:
    rendered = modalities_of(service)
    assert rendered.keys() == {modality.aet for modality in service.modalities}
    for modality in service.modalities:
        properties = rendered[modality.aet]
        assert properties["AET"] == modality.aet
        assert properties["AllowEcho"] is True
        assert {right for right, key in _RIGHTS.items() if properties[key] is True} == set(modality.may)
        assert {right for right, key in _RIGHTS.items() if properties[key] is False} == _RIGHTS.keys() - set(modality.may)


@every_scenario
def test_no_right_of_a_modality_is_left_to_orthancs_default_which_is_to_allow(service: Service) -> None:
    for properties in modalities_of(service).values():
        assert {*_RIGHTS.values(), "AllowEcho", "AllowNAction"} <= properties.keys()
        assert all(type(value) is bool for key, value in properties.items() if key.startswith("Allow"))


def test_who_may_store_and_can_be_answered_may_ask_for_storage_commitment_and_nobody_may_report_events() -> None:
    service = SCENARIOS["many"]
    rendered = modalities_of(service)
    for modality in service.modalities:
        answered = _as_orthanc_answers(rendered[modality.aet])
        assert answered["AllowNAction"] is ("store" in modality.may and modality.address is not None)
        assert answered["AllowEventReport"] is False


@every_scenario
def test_orthanc_sends_to_a_modality_by_tls_through_the_gateways_port_of_that_modality(service: Service) -> None:
    ports = outgoing_ports(modality.aet for modality in service.modalities if modality.address is not None)
    rendered = modalities_of(service)
    for modality in service.modalities:
        properties = rendered[modality.aet]
        assert properties["UseDicomTls"] is True
        assert properties["AllowTranscoding"] is True  # to what the modality understands
        assert properties["Manufacturer"] == "Generic"
        if modality.address is None:
            assert properties["Host"].endswith(".invalid")  # RFC 2606: never a host
        else:
            assert (properties["Host"], properties["Port"]) == (places.GATEWAY_HOST, ports[modality.aet])
        assert 1 <= properties["Port"] <= 65534  # Orthanc's own bounds
