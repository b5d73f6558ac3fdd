"""The site gateway: for equipment that can't do mutual TLS. A `Gateway` in, the text of its folder's files out.

Plain DICOM comes in from the local network, is kept in a queue (an Orthanc of its own: pixels in files, index in PostgreSQL,
both on disk before a C-STORE is acknowledged), and goes on by mutual TLS under the gateway's own AE title. A second port
leads queries straight through. Everything runs on one computer, so nothing is encrypted between its containers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, HttpUrl, model_validator

from config_templates.model import Aet, Host, Image, Name, Port, RotatedFiles, StrictModel
from config_templates.orthanc import TLS12_CIPHERS
from config_templates.rendering import TEMPLATES
from config_templates.routing import endpoint

HERE: Final = Path(__file__).parent
# The one secret that a gateway is given; those that its containers share are made where it runs (`gateway start`).
KEY: Final = "nginx/gateway.key"
CERTIFICATES: Final = ("nginx/gateway.crt", "nginx/authority.crt")

DICOM_PORT: Final = 11112  # in the nginx container
DIRECT_PORT: Final = 11113
FORWARD_PORT: Final = 20000  # to the server, for the queue alone
ALIVE_PORT: Final = 8081  # loopback of the nginx container only
STATUS_PORT: Final = 8048
ORTHANC_DICOM_PORT: Final = 4242
ORTHANC_HTTP_PORT: Final = 8042
SERVER: Final = "server"  # the queue's name for where it sends

# RFC 1918: what a site's network is when nobody says more exactly.
PRIVATE: Final = tuple(IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return IPv4Network(value)
    except ValueError:
        raise ValueError(f"{value!r} is no IPv4 network: give one like 192.168.10.0/24") from None


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return IPv4Address(value)
    except ValueError:
        raise ValueError(f"{value!r} is no IPv4 address: give this computer's own in the site's network, like 192.168.10.5") from None


def _local(networks: tuple[IPv4Network, ...]) -> tuple[IPv4Network, ...]:
    if not networks:
        raise ValueError("give at least one network, like 192.168.10.0/24")
    for network in networks:
        if network.prefixlen < 8:
            raise ValueError(f"{network} is no local network: plain DICOM would be taken from strangers; give one like 192.168.10.0/24")
    return networks


def _some(devices: tuple[str, ...]) -> tuple[str, ...]:
    if not devices:
        raise ValueError("name at least one AE title that may call the gateway")
    return devices


class Server(StrictModel):
    """Where a gateway sends to. `name` is the DNS name that the server's certificate carries."""

    aet: Aet
    host: Host
    port: Port
    name: Host


class Gateway(StrictModel):
    """One site gateway: the modality that it is to the server, and whose plain DICOM it takes.

    `listen` is the computer's own address on which it takes DICOM (IPv4 alone: Docker hands IPv6 on without its sender's address).
    `queue_mb` bounds what may wait; None leaves it to the disk (four fifths of it).
    """

    aet: Aet
    server: Server
    devices: Annotated[tuple[Aet, ...], AfterValidator(_some)]
    networks: Annotated[tuple[Annotated[IPv4Network, BeforeValidator(_network)], ...], AfterValidator(_local)] = PRIVATE
    listen: Annotated[IPv4Address, BeforeValidator(_address)] = IPv4Address("0.0.0.0")  # noqa: S104 - `networks` says whom it answers
    dicom_port: Port = 11112
    direct_port: Port = 11113
    status_port: Port = 8048
    orthanc_image: Image
    nginx_image: Image
    postgres_image: Image
    certificate_ends: int = Field(gt=0, description="seconds since 1970 at which the gateway's certificate ends")
    late_minutes: int = Field(default=15, ge=1, description="an image that has waited longer is an alarm")
    queue_mb: int | None = Field(default=None, ge=100)
    alarm_url: HttpUrl | None = Field(default=None, description="where alarms are posted, as JSON with a `text`")
    logs: RotatedFiles = RotatedFiles()

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        ports = (self.dicom_port, self.direct_port, self.status_port)
        if len(set(ports)) < len(ports):
            raise ValueError(f"the ports {', '.join(map(str, ports))} must differ")
        return self

    @property
    def project(self) -> Name:
        """Docker's name for it: several gateways may run on one computer."""
        return f"orthanc-gateway-{self.aet.lower().replace('.', '-').strip('-_')}"


def configuration(gateway: Gateway) -> Mapping[str, object]:
    """orthanc.json of the queue. `gateway start` adds users.json and bound.json (MaximumStorageSize)."""
    return {
        "Name": f"gateway {gateway.aet}",
        "DatabaseServerIdentifier": gateway.project,
        # What is sent is decided by what is there, again after each start: a job that was cut off is of no use.
        "SaveJobs": False,
        "ConcurrentJobs": 4,  # forwarder.PARALLEL
        "RemoteAccessAllowed": True,
        "AuthenticationEnabled": True,
        "HttpPort": ORTHANC_HTTP_PORT,
        "ExecuteLuaEnabled": False,
        "LuaScripts": [],
        "RestApiWriteToFileSystemEnabled": False,
        "WebDavEnabled": False,
        "DicomAet": gateway.aet,
        "DicomPort": ORTHANC_DICOM_PORT,
        "DicomCheckCalledAet": False,  # equipment of many years calls it by many names
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,  # nginx has checked who it is
        "DicomAlwaysAllowFind": False,
        "DicomAlwaysAllowFindWorklist": False,
        "DicomAlwaysAllowGet": False,
        "DicomAlwaysAllowMove": False,
        "DicomThreadsCount": 40,
        "DicomScpTimeout": 300,  # as the server's: many scanners keep an association open between series
        "MaximumPduLength": 131072,
        "DeidentifyLogs": True,
        # A full queue refuses (0xA700, out of resources): the modality keeps the image, and no waiting one makes room for it.
        "MaximumStorageMode": "Reject",
        # A database that dies may have committed an image whose C-STORE failed; Orthanc has then removed the pixels (ServerContext.cpp,
        # "cancelling and deleting the attachments"). The modality sends it again: that must bring the pixels, not be "already stored".
        "OverwriteInstances": True,
        "SyncStorageArea": True,  # an image is on the disk before it is acknowledged
        "StorageCompression": False,
        "DicomModalities": {
            SERVER: {
                "AET": gateway.server.aet,
                "Host": "forward",  # nginx on the inside network
                "Port": FORWARD_PORT,
                "Manufacturer": "Generic",
                "UseDicomTls": False,  # nginx does it, and verifies the server's name
                "LocalAet": gateway.aet,
                "AllowEcho": False,
                "AllowStore": False,
                "AllowFind": False,
                "AllowFindWorklist": False,
                "AllowGet": False,
                "AllowMove": False,
                "AllowNAction": False,
                "AllowEventReport": False,
                "AllowTranscoding": False,  # what arrived is what goes on
            }
        },
        "PostgreSQL": {
            "EnableIndex": True,
            "EnableStorage": False,  # files: what has gone on leaves the disk at once
            "ConnectionUri": "postgresql:///orthanc?host=/var/run/postgresql&user=orthanc&application_name=orthanc",
            "Lock": True,
            "IndexConnectionsCount": 8,
            "TransactionMode": "ReadCommitted",
            "EnableVerboseLogs": False,
        },
    }


def said(gateway: Gateway) -> Mapping[str, object]:
    """forwarder/gateway.json: what the forwarder has to know."""
    return {
        "aet": gateway.aet,
        "server": f"{gateway.server.aet} at {endpoint(gateway.server.host, gateway.server.port)}",
        "certificate_ends": gateway.certificate_ends,
        "late_minutes": gateway.late_minutes,
        "alarm_url": "" if gateway.alarm_url is None else str(gateway.alarm_url),
    }


def render_gateway(gateway: Gateway) -> Mapping[str, str]:
    """The files of the gateway's folder, by path. Pure; KEY and CERTIFICATES are added by whoever has them."""
    gateway = Gateway.model_validate(gateway)
    files = {
        "orthanc/orthanc.json": _json(configuration(gateway)),
        "orthanc-log/log.sed": (HERE.parent / "probe/log.sed").read_text(encoding="utf-8"),
        "nginx/equipment.js": (HERE / "equipment.js").read_text(encoding="utf-8"),
        "nginx/association.js": (HERE.parent / "nginx/association.js").read_text(encoding="utf-8"),
        "forwarder/gateway.json": _json(said(gateway)),
        "forwarder/forwarder.py": (HERE / "forwarder.py").read_text(encoding="utf-8"),
        "postgres/postgresql.conf": (HERE / "postgresql.conf").read_text(encoding="utf-8"),
        "postgres/pg_hba.conf": (HERE / "pg_hba.conf").read_text(encoding="utf-8"),
        "postgres-init/create.sql": (HERE / "create.sql").read_text(encoding="utf-8"),
    }
    values = {
        **{name: getattr(gateway, name) for name in type(gateway).model_fields},
        "project": gateway.project,
        "ciphers": ":".join(TLS12_CIPHERS),
        "target": endpoint(gateway.server.host, gateway.server.port),
        "listen": str(gateway.listen),
        "networks": [str(network) for network in gateway.networks],
        "queue_mb": gateway.queue_mb or 0,
        "ports": {
            "dicom": DICOM_PORT,
            "direct": DIRECT_PORT,
            "forward": FORWARD_PORT,
            "alive": ALIVE_PORT,
            "status": STATUS_PORT,
            "orthanc": ORTHANC_DICOM_PORT,
        },
    }
    files["nginx/nginx.conf"] = TEMPLATES.get_template("gateway/nginx.conf.j2").render(values)
    # Containers take other bytes when they are made anew, and these digests make compose do that.
    values["digests"] = {
        directory: sha256("".join(files[name] for name in sorted(files) if name.startswith(f"{directory}/")).encode()).hexdigest()
        for directory in ("orthanc", "nginx", "forwarder", "postgres")
    }
    files["compose.yaml"] = TEMPLATES.get_template("gateway/compose.yaml.j2").render(values)
    files["gateway"] = TEMPLATES.get_template("gateway/gateway.j2").render(values)
    return files


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
