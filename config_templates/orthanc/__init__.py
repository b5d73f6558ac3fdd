"""Orthanc's configuration and the modalities that it shall know, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from config_templates.model import Modality, Service
from config_templates.places import (
    GATEWAY_HOST,
    ORTHANC_DICOM_PORT,
    ORTHANC_HTTPS_PORT,
)
from config_templates.routing import endpoint, outgoing_ports

# RFC 9325 (BCP 195) and PS3.15 B.12: forward secrecy and AEAD only. OpenSSL's names; nginx takes the same ones.
TLS12_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")

_HOME = "/etc/orthanc"


def connection_uri(service: Service) -> str:
    """libpq's URI to the database: verified TLS, no password in it (libpq reads the passfile at every new connection)."""
    database = service.database
    options = {
        "sslmode": "verify-full",
        "sslrootcert": f"{_HOME}/database-authority.crt",
        "ssl_min_protocol_version": "TLSv1.2",
        "passfile": f"{_HOME}/pgpass",
        "application_name": "orthanc",
        "connect_timeout": 10,
        # A database that failed over leaves dead sessions behind: noticed after 30 + 3 * 10 s idle, 30 s unanswered.
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30000,
        "target_session_attrs": "read-write",
    }
    return f"postgresql://{database.user}@{endpoint(database.host, database.port)}/{database.name}?{urlencode(options, safe='/')}"


def configuration(service: Service) -> Mapping[str, object]:
    """orthanc.json. Users come from users.json beside it, which only the host knows."""
    return {
        "Name": service.aet,
        # Two Orthancs may share the database while one replaces the other: no job belongs to both.
        "DatabaseServerIdentifier": service.project,
        "SaveJobs": False,
        # REST: HTTPS to whoever shows a certificate of the inside authority, and a password besides.
        "RemoteAccessAllowed": True,
        "AuthenticationEnabled": True,
        "HttpPort": ORTHANC_HTTPS_PORT,
        "SslEnabled": True,
        "SslCertificate": f"{_HOME}/orthanc.pem",
        "SslMinimumProtocolVersion": 4,  # TLS 1.2
        "SslCiphersAccepted": list(TLS12_CIPHERS),
        "SslVerifyPeers": True,
        "SslTrustedClientCertificates": f"{_HOME}/inside-authority.crt",
        "HttpsVerifyPeers": True,
        # What a person at the web page must not be able to turn into code or files on the server.
        "ExecuteLuaEnabled": False,
        "LuaScripts": [],
        "RestApiWriteToFileSystemEnabled": False,
        "WebDavEnabled": False,
        "WebDavDeleteAllowed": False,
        "WebDavUploadAllowed": False,
        # DICOM: TLS to whoever shows a client certificate of the inside authority, that is nginx.
        "DicomAet": service.aet,
        "DicomPort": ORTHANC_DICOM_PORT,
        "DicomCheckCalledAet": True,
        "StrictAetComparison": True,
        "DicomCheckModalityHost": False,  # every peer has nginx's address; nginx has checked who it is
        "DicomModalitiesInDatabase": True,  # held equal to modalities.json by the probe, without a restart
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomAlwaysAllowFind": False,
        "DicomAlwaysAllowFindWorklist": False,
        "DicomAlwaysAllowGet": False,
        "DicomAlwaysAllowMove": False,
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": f"{_HOME}/orthanc.crt",
        "DicomTlsPrivateKey": f"{_HOME}/orthanc.key",
        "DicomTlsTrustedCertificates": f"{_HOME}/inside-authority.crt",
        "DicomTlsRemoteCertificateRequired": True,
        "DicomTlsMinimumProtocolVersion": 4,  # TLS 1.2; 0 would mean a profile that falls back to TLS 1.0
        "DicomTlsCiphersAccepted": [*TLS13_CIPHERS, *TLS12_CIPHERS],
        "DicomThreadsCount": service.limits.dicom_threads,
        "DicomScpTimeout": service.limits.idle_association_seconds,
        "MaximumPduLength": 131072,  # the largest that Orthanc offers: fewer round trips for big images
        "DeidentifyLogs": True,
        "PostgreSQL": {
            "EnableIndex": True,
            "EnableStorage": True,
            "ConnectionUri": connection_uri(service),
            "Lock": False,  # a replacement may start before the old process has ended
            "IndexConnectionsCount": service.database.index_connections,
            "TransactionMode": "ReadCommitted",
            "EnableVerboseLogs": False,  # would log queries with patients' names
        },
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "EnableWado": True,
            "WadoRoot": "/wado",
            "Ssl": True,
        },
    }


def modalities(service: Service) -> Mapping[str, Mapping[str, object]]:
    """What PUT /modalities/NAME gets for each modality; the name is the AE title.

    Orthanc sends to nginx's inside port of that modality. One without an address gets port 1 of a name that leads nowhere.
    """
    ports = outgoing_ports(m.aet for m in service.modalities if m.address is not None)
    return {m.aet: _modality(m, ports.get(m.aet)) for m in service.modalities}


def _modality(modality: Modality, port: int | None) -> Mapping[str, object]:
    return {
        "AET": modality.aet,
        "Host": "nowhere.invalid" if port is None else GATEWAY_HOST,
        "Port": 1 if port is None else port,
        "Manufacturer": "Generic",
        "UseDicomTls": True,
        "AllowEcho": True,
        "AllowStore": "store" in modality.may,
        "AllowFind": "find" in modality.may,
        "AllowFindWorklist": "worklist" in modality.may,
        "AllowGet": "get" in modality.may,
        "AllowMove": "move" in modality.may,
        # Storage commitment is asked for by N-ACTION, and answered over an association to the modality (PS3.4 annex J).
        "AllowNAction": "store" in modality.may and port is not None,
        "AllowEventReport": False,  # the name that Orthanc reads; its documentation says AllowNEventReport
        "AllowTranscoding": True,
    }
