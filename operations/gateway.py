"""`make gateway`: a folder for a computer at a site whose equipment can't do mutual TLS (config_templates/gateway, docs/gateway.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from config_templates import pins
from config_templates.gateway import CERTIFICATES, KEY, PRIVATE, Gateway, Server, render_gateway
from config_templates.model import Right
from laptop import tell
from laptop.certificates import Pair, belong_together, expiry
from laptop.docker import check_engine
from laptop.images import obtain
from laptop.private import private_directory, write
from laptop.site import Site, own_names
from laptop.tell import Trouble, complaints
from operations.deployed import Bundle, Deployed
from operations.modality import choose
from operations.sheet import rows, wrapped

SHEET: Final = "README.txt"
_SCRIPT: Final = "gateway"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The service that a gateway belongs to, and the modality that it is there."""

    name: str
    aet: str
    number: int
    may: tuple[Right, ...]
    server: Server
    bundle: Bundle
    images: Mapping[str, str]
    ports: Mapping[str, int] = field(default_factory=dict)


def of_stack(stack: str, found: Deployed, aet: str, *, number: int | None) -> Origin:
    """Raises Trouble when the stack has no such modality or certificate."""
    this = choose(stack, found, aet, number)
    service = found.service
    if service.certificate_name is None:
        raise Trouble(
            f"the stack {stack} does not say which name its certificate carries: an older program deployed it. make up STACK={stack}"
        )
    return Origin(
        name=f"the stack {stack}",
        aet=aet,
        number=this.number,
        may=this.rights.may,
        server=Server(aet=service.aet, host=service.host, port=service.dicom_port, name=service.certificate_name),
        bundle=this.bundle,
        images={"orthanc": pins.ORTHANC_IMAGE, "nginx": pins.NGINX_IMAGE, "postgres": pins.POSTGRES_IMAGE},
    )


def of_demo(home: Path, aet: str, *, number: int | None, host: str | None = None) -> Origin:
    """The demo on this machine, reached from the gateway's containers at this machine's address (`host`, if given)."""
    if not (home / "site.json").exists():
        raise Trouble(f"there is no demo in {home}: run 'make demo' first, or name a stack on AWS: make gateway AET={aet} STACK=dev")
    check_engine()
    site = Site.load(home)
    enrolment = next((m for m in site.plan.modalities if m.aet == aet), None)
    if enrolment is None:
        raise Trouble(f"no modality {aet} is enrolled in the demo. Enrol it: make demo-enrol AET={aet} MAY=store,find")
    number = max(enrolment.certificates) if number is None else number
    if number not in enrolment.certificates:
        raise Trouble(f"{aet} has no certificate {number} in the demo. In force: {', '.join(map(str, sorted(enrolment.certificates)))}.")
    address = host or next((name for name in own_names() if re.fullmatch(r"(?!127\.)[0-9.]+", name)), None)
    if address is None:
        raise Trouble(
            "this machine has no address but its own loopback, which containers can't reach. Connect it to a network, and try again."
        )
    pair, images = site.modality(aet, number), obtain()
    return Origin(
        name="the demo on this machine",
        aet=aet,
        number=number,
        may=enrolment.may,
        server=Server(aet=site.plan.aet, host=address, port=site.plan.dicom_port, name="localhost"),
        bundle=Bundle.model_validate(
            {"certificate": pair.certificate, "authority": site.authority("outside").certificate, "key": pair.key}
        ),
        images={"orthanc": images.orthanc, "nginx": images.nginx, "postgres": images.postgres},
        ports={"dicom_port": 11122, "direct_port": 11123},  # the demo has the usual one on this machine
    )


def design(origin: Origin, wishes: Mapping[str, Any]) -> Gateway:
    """The gateway for `origin`. `wishes` are what the operator said (None: not said). Raises Trouble that names what does not fit."""
    if "store" not in origin.may:
        said = ", ".join(origin.may) or "nothing"
        raise Trouble(
            f"{origin.aet} may not store at {origin.name} (it may: {said}), so nothing could be forwarded. Give it the right first."
        )
    said_by_people = {name: value for name, value in wishes.items() if value is not None}
    try:
        return Gateway(
            aet=origin.aet,
            server=origin.server,
            orthanc_image=origin.images["orthanc"],
            nginx_image=origin.images["nginx"],
            postgres_image=origin.images["postgres"],
            certificate_ends=int(expiry(origin.bundle.certificate).timestamp()),
            **{"devices": (origin.aet,), "networks": PRIVATE, **origin.ports, **said_by_people},
        )
    except ValidationError as error:
        raise Trouble(f"such a gateway can't be: {complaints(error)}.") from None


def write_gateway(origin: Origin, gateway: Gateway, folder: Path) -> None:
    """Write the folder for the site's computer, and tell what it is; never what the key is."""
    check_free(folder, gateway)
    private_directory(folder)
    files = render_gateway(gateway)
    for name, text in files.items():
        write(folder / name, text, 0o700 if name == _SCRIPT else 0o600)
    certificate, authority = CERTIFICATES
    write(folder / certificate, origin.bundle.certificate)
    write(folder / authority, origin.bundle.authority)
    if origin.bundle.key is not None:
        write(folder / KEY, origin.bundle.key.get_secret_value())
    elif (folder / KEY).exists() and not _fits(folder / KEY, origin.bundle.certificate):
        (folder / KEY).unlink()  # an older certificate's: copied along, it would take the place of the site's own
    write(folder / SHEET, sheet(origin, gateway))
    for directory in {(folder / name).parent for name in (*files, KEY)}:
        directory.chmod(0o700)
    tell.step(f"Gateway {gateway.aet} to {origin.name}, certificate {origin.number}: {folder}")
    tell.detail(f"equipment    {', '.join(gateway.devices)}, from {', '.join(map(str, gateway.networks))}")
    if gateway.networks == PRIVATE:
        tell.detail("             (every private network: NETWORK=192.168.10.0/24 would say which one is the site's)")
    tell.detail(f"certificate  ends {expiry(origin.bundle.certificate):%Y-%m-%d}")
    if origin.bundle.key is None:
        tell.detail(f"key          not here: {gateway.aet} made it itself. Put it into {KEY} at the site")
    tell.detail("next         copy the folder to a Linux computer with Docker at the site, encrypted or in person, and there:")
    tell.detail("             sudo ./gateway start")
    tell.detail(f"{SHEET}   what to set at the equipment, alarms, renewing, removing")


def _fits(key: Path, certificate: str) -> bool:
    try:
        return belong_together(Pair(certificate=certificate, key=key.read_text(encoding="utf-8")))
    except (TypeError, ValueError):  # also when it has a passphrase
        return False


def check_free(folder: Path, gateway: Gateway) -> None:
    """A gateway may be written over itself (renewed), and over nothing else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    compose = folder / "compose.yaml"
    if not compose.exists() or f'name: "{gateway.project}"\n' not in compose.read_text(encoding="utf-8"):
        raise Trouble(f"{folder} holds something else than the gateway {gateway.aet}. Give another folder: OUT=...")


def sheet(origin: Origin, gateway: Gateway) -> str:
    """What the people at the site need, on one page."""
    server, device, page = gateway.server, gateway.devices[0], f"http://127.0.0.1:{gateway.status_port}"
    posted = f" Alarms are posted to {gateway.alarm_url.host}." if gateway.alarm_url else ""
    lines = [
        f"Gateway {gateway.aet} to {server.aet} ({origin.name}), certificate {origin.number}",
        "",
        *wrapped(
            "It takes plain DICOM from this site's equipment, keeps each image on its disk until the server has acknowledged it, and "
            "sends it there over mutual TLS. It needs a Linux computer with Docker Engine and its compose plugin, 4 GB of memory, and a "
            "disk with room for what comes in while the line is down."
        ),
        "",
        *wrapped(_images(gateway)),
        "",
        "Start, look, end (in this folder; as root, or as a user of Docker's: always the same one)",
        *rows(
            ("./gateway start", "starts it. After a restart of the computer it comes back by itself"),
            ("./gateway status", f"how it stands; in a browser on this computer: {page}/"),
            ("./gateway remove", "ends it, once nothing waits any more"),
        ),
        "",
        "What to set at the equipment",
        *rows(
            ("address", "this computer's, in the site's network"),
            ("port to store", str(gateway.dicom_port)),
            ("port for queries", f"{gateway.direct_port}: C-FIND, worklist and C-GET go straight to the server, while the line is up"),
            ("called AE title", f"{server.aet} (to store: any)"),
            ("calling AE title", f"one of {', '.join(gateway.devices)} (upper and lower case differ)"),
            ("TLS", "off"),
            ("taken from", ", ".join(map(str, gateway.networks))),
        ),
        "",
        "Test it with dcmtk from another computer here: as far as this gateway, and through to the server",
        f"  echoscu -v -aet {device} -aec {server.aet} ADDRESS {gateway.dicom_port}",
        f"  echoscu -v -aet {device} -aec {server.aet} ADDRESS {gateway.direct_port}",
        "",
        *wrapped(
            "Between the equipment and this computer images travel in the clear: both must be in a network that strangers can't enter. "
            "This folder holds the key with which the gateway is let in at the server: whoever has it can store there as "
            f"{gateway.aet}. Should the computer be lost, have {gateway.aet} struck."
        ),
        "",
        "When something is wrong",
        *wrapped(
            f"./gateway status ends with a line for each alarm. {page}/health answers 503 then, {page}/metrics is for Prometheus, and "
            f"Docker calls the forwarder unhealthy.{posted}"
        ),
        *rows(
            ("not reached", f"the line; a firewall: TCP to {server.host} port {server.port} must be open; or {gateway.aet} was struck"),
            ("refuses", f"what {gateway.aet} may do at the server; for a single object that it will never take: save, then drop ID"),
            ("full", "equipment keeps its images meanwhile (status 0xA700); nothing that waits is lost"),
            ("certificate", "copy the renewed folder over this one, and ./gateway start; what waits stays"),
        ),
    ]
    return "\n".join(lines) + "\n"


def _images(gateway: Gateway) -> str:
    """How the containers' images come to the computer."""
    names = tuple(dict.fromkeys((gateway.orthanc_image, gateway.nginx_image, gateway.postgres_image)))
    if any(name.startswith("sha256:") for name in names):
        return "Its images are only on the machine that wrote this folder: it is for a try there, and starts on no other computer."
    short = [name.partition("@")[0] for name in names]
    return (
        f"Its first start pulls {', '.join(short[:-1])} and {short[-1]} (by the digests in compose.yaml), which takes HTTPS to their "
        "registry; so does the first after a renewal that names others. Other starts don't need it. Where the site lets no such "
        "connection out: ./gateway pull, before this computer comes to the site. docker save and docker load are no way round: "
        "Docker may lose the digests."
    )
