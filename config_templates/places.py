"""Where things lie inside the containers, and which secrets a host puts beside the rendered files.

A rendered file `nginx/nginx.conf` lands in `<run_dir>/nginx/nginx.conf`. Each directory below `run_dir` is mounted into a
container whole, so that a file that is renamed into it is seen there, and belongs to that container's user alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MOUNTS: Final[Mapping[str, tuple[str, str]]] = {
    # directory below run_dir: (container, where it is seen there)
    "orthanc": ("orthanc", "/etc/orthanc"),
    "probe": ("orthanc", "/etc/probe"),
    "nginx": ("nginx", "/etc/gateway"),
    "postgres": ("postgres", "/etc/database"),
    "postgres-init": ("postgres", "/docker-entrypoint-initdb.d"),
}

# Names inside the containers' networks; the inside certificates carry them.
ORTHANC_HOST: Final = "orthanc.inside"
GATEWAY_HOST: Final = "gateway.inside"
DATABASE_HOST: Final = "database.inside"

ORTHANC_DICOM_PORT: Final = 4242
ORTHANC_HTTPS_PORT: Final = 8042
GATEWAY_DICOM_PORT: Final = 11112
GATEWAY_HTTPS_PORT: Final = 8443
GATEWAY_ALIVE_PORT: Final = 8081  # loopback of the nginx container only

# What the host adds to the rendered files: keys and certificates in PEM, passwords as they are.
SECRETS: Final[Mapping[str, tuple[str, ...]]] = {
    "orthanc": (
        "users.json",  # {"RegisteredUsers": {name: password}}: Orthanc merges it with orthanc.json
        "pgpass",  # libpq's passfile, read at every new connection
        "database-authority.crt",
        "inside-authority.crt",  # who may call Orthanc: the gateway and the probe
        "orthanc.crt",
        "orthanc.key",
        "orthanc.pem",  # certificate and key in one file, as Orthanc's HTTPS server wants it
    ),
    "probe": ("orthanc-authority.crt", "probe.crt", "probe.key", "password"),
    "nginx": (
        "outside-authority.crt",  # signs the server's and the modalities' certificates
        "orthanc-authority.crt",  # signs Orthanc's own, and no other
        "server.crt",  # to modalities
        "server.key",
        "web.crt",  # to browsers: the same, or one that the site has from an authority of its own choice
        "web.key",
        "gateway.crt",  # nginx to Orthanc, and Orthanc to nginx's outgoing ports
        "gateway.key",
        "outgoing.crt",  # nginx to a modality that images are sent to
        "outgoing.key",
    ),
}
# What a host on AWS has for its own proof, as a modality (rest of the directories' rules alike; no container mounts it).
AGENT: Final = "agent"
AGENT_SECRETS: Final[Mapping[str, tuple[str, ...]]] = {AGENT: ("probe.crt", "probe.key", "outside-authority.crt")}
LAPTOP_SECRETS: Final[Mapping[str, tuple[str, ...]]] = {
    "postgres": ("server.crt", "server.key", "superuser-password", "superuser.pgpass", "orthanc-password"),
}


def modality_host(aet: str) -> str:
    """The DNS name in a modality's certificate, by which nginx verifies it before images are sent there.

    AE titles differ by more than case (model.Service), so no two modalities share a name.
    """
    return f"{aet.lower()}.modality.orthanc"
