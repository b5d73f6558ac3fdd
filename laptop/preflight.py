"""What would stop a start halfway, asked beforehand: nothing has been written or started yet when one of these is raised."""

from __future__ import annotations

import errno
import socket
from hashlib import sha1

from laptop.docker import attempt, docker
from laptop.images import Images
from laptop.site import Site
from laptop.tell import Trouble

_UNKNOWN = Images(orthanc=f"sha256:{0:064}", nginx=f"sha256:{0:064}", postgres=f"sha256:{0:064}", standins=True)


def check(site: Site) -> None:
    """Raise Trouble when the site's containers could not start, or would not be its own."""
    _fitting(site)
    _no_orphan(site)
    _no_neighbour(site)
    _free_ports(site)


def _fitting(site: Site) -> None:
    """The plan's values fit together. Neither images nor certificates are needed to see that, so stand-ins of both are judged."""
    site.service(_UNKNOWN, lambda aet, number: sha1(f"{aet} {number}".encode(), usedforsecurity=False).hexdigest())


def _no_orphan(site: Site) -> None:
    """A database of an earlier demo whose folder is gone would let nobody in: its password went with the folder."""
    volume = f"{site.plan.project}_database"
    if not site.has_password("database") and attempt("volume", "inspect", volume, seconds=30).returncode == 0:
        raise Trouble(
            f"Docker's volume {volume} holds studies of an earlier demo, but its password is not in {site.home}. Run this in the "
            f"folder where that demo was made, or give its studies up: docker compose -p {site.plan.project} down --volumes"
        )


def _no_neighbour(site: Site) -> None:
    """Two services can't keep their containers away from the same metadata address: Docker gives that link out once."""
    form = '{{.Name}} {{.Label "com.docker.compose.project"}}'
    for line in docker("network", "ls", "--filter", "name=_no-metadata", "--format", form).splitlines():
        network, _, project = line.partition(" ")
        if project != site.plan.project:
            raise Trouble(
                f"another imaging service is on this machine (Docker's network {network}), and there is room for one. "
                f"Stop it, its studies stay: docker compose -p {project} down"
            )


def _free_ports(site: Site) -> None:
    for variable, port in (("DICOM_PORT", site.plan.dicom_port), ("WEB_PORT", site.plan.web_port)):
        own = docker("ps", "--quiet", f"--filter=publish={port}", f"--filter=label=com.docker.compose.project={site.plan.project}")
        if not own.strip() and _taken(port):
            raise Trouble(
                f"port {port} is taken by another program ('sudo ss -ltnp' or 'lsof -i :{port}' shows which). "
                f"Stop it, or choose another port: make demo {variable}=..."
            )


def _taken(port: int) -> bool:
    """Whether somebody listens there already, on any address. Docker publishes on all of them, over IPv4 and IPv6."""
    for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - bound for a moment, never listening
        try:
            with socket.socket(family) as attempted:
                attempted.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended lately are no hindrance
                if family == socket.AF_INET6:
                    attempted.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                attempted.bind((everywhere, port))
        except OSError as error:  # others (no IPv6, a port that only root may take) are no hindrance to Docker
            if error.errno == errno.EADDRINUSE:
                return True
    return False
