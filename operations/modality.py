"""`make modality`: what a modality's vendor needs, from the stack's outputs into one folder: certificate, key, authority, and a sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from config_templates.model import fingerprint
from config_templates.orthanc import TLS12_CIPHERS, TLS13_CIPHERS
from laptop import tell
from laptop.certificates import expiry
from laptop.private import write, write_bundle
from laptop.tell import Trouble
from operations.deployed import Bundle, Deployed, Rights, Service
from operations.sheet import rows, wrapped

SHEET: Final = "README.txt"


@dataclass(frozen=True)
class Handover:
    """One certificate of one modality, and all that is in force beside it."""

    stack: str
    aet: str
    number: int
    service: Service
    in_force: Mapping[int, Bundle]

    @property
    def bundle(self) -> Bundle:
        return self.in_force[self.number]

    @property
    def rights(self) -> Rights:
        return self.service.modalities[self.aet]


def hand_over(stack: str, found: Deployed, aet: str, *, number: int | None, folder: Path | None) -> None:
    """Write the bundle of `aet`, and tell what was written and what is still in force besides; never what a key is."""
    this = choose(stack, found, aet, number)
    folder = folder or Path("bundles") / stack / f"{aet}-{this.number}"
    check_free(folder, this)
    bundle = this.bundle
    key = bundle.key.get_secret_value() if bundle.key else None
    write_bundle(folder, aet, certificate=bundle.certificate, authority=bundle.authority, key=key)
    write(folder / SHEET, sheet(this))
    tell.step(f"{aet}, certificate {this.number}, ends {_day(bundle)}: {folder}")
    tell.detail(f"{aet}.crt        its certificate")
    if key is None:
        tell.detail(f"(no {aet}.key: the modality made its key itself, and it never left it)")
    else:
        tell.detail(f"{aet}.key        its key, readable by you alone: hand it over in person or encrypted, then remove this folder")
    tell.detail("authority.crt  whom it shall trust")
    tell.detail(f"{SHEET}     address, AE titles, TLS, and how to test it")
    for line in _others(this):
        tell.detail(line)


def choose(stack: str, found: Deployed, aet: str, number: int | None) -> Handover:
    """The certificate that was asked for; the newest when no number was given."""
    in_force = found.modalities.get(aet)
    if not in_force or aet not in found.service.modalities:
        known = ", ".join(sorted(found.modalities)) or "none"
        raise Trouble(
            f"no modality {aet} is enrolled in the stack {stack}. Enrolled (upper and lower case differ): {known}. "
            f"To enrol it, add it to orthanc:modalities in Pulumi.{stack}.yaml and run make up STACK={stack}."
        )
    chosen = max(in_force) if number is None else number
    if chosen not in in_force:
        raise Trouble(f"{aet} has no certificate {chosen} in the stack {stack}. In force: {', '.join(map(str, sorted(in_force)))}.")
    return Handover(stack, aet, chosen, found.service, in_force)


def check_free(folder: Path, this: Handover) -> None:
    """The folder must be new, empty, or hold this very bundle: keys of two modalities must not get mixed, nor a folder of another use."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise Trouble(f"{folder} is a file. Give a folder: OUT=...")
    there = sorted(path.name for path in folder.iterdir())
    own = folder / f"{this.aet}.crt"
    if not there or (own.exists() and own.read_text(encoding="utf-8") == this.bundle.certificate):
        return
    holders = [name.removesuffix(".crt") for name in there if name.endswith(".crt") and name != "authority.crt"]
    what = f"another bundle ({', '.join(holders)})" if holders else f"something else ({', '.join(there[:3])})"
    if holders == [this.aet]:
        what = f"another certificate of {this.aet}"
    raise Trouble(f"the folder {folder} holds {what}. Give another one (OUT=...), or remove it when nobody needs it any more.")


def _others(this: Handover) -> Iterator[str]:
    """What to know about the modality's other certificates."""
    newest = max(this.in_force)
    for number, bundle in sorted(this.in_force.items()):
        if number != this.number:
            age = "older" if number < this.number else "newer"
            yield f"its {age} certificate {number} is let in too, until {_day(bundle)}"
    if len(this.in_force) > 1:
        yield (
            f"once {this.aet} shows certificate {newest}, strike the others: certificates: [{newest}] in Pulumi.{this.stack}.yaml, "
            f"make up STACK={this.stack}"
        )


def _day(bundle: Bundle) -> str:
    return f"{expiry(bundle.certificate):%Y-%m-%d}"


# -- the sheet -------------------------------------------------------------------------------------------------------------


def sheet(this: Handover) -> str:
    """One page for whoever sets the modality up: where to connect, as whom, with which TLS, and how to test it."""
    service, aet = this.service, this.aet
    lines = [
        f"{aet} at {service.aet} (stack {this.stack}), certificate {this.number}",
        "",
        "Where and as whom",
        *rows(
            ("address", service.host),
            ("port", str(service.dicom_port)),
            ("called AE title", service.aet),
            ("calling AE title", f"{aet}   (exactly so: upper and lower case differ; the certificate is bound to it)"),
            ("may", ", ".join(("echo", *this.rights.may))),
        ),
        "",
        "TLS (PS3.15 B.12, BCP 195), with a client certificate",
        *rows(
            ("versions", "1.2 and 1.3; nothing older, and nothing in the clear"),
            ("suites, TLS 1.3", " ".join(TLS13_CIPHERS)),
            ("suites, TLS 1.2", " ".join(TLS12_CIPHERS)),
        ),
        "",
        "Files",
        *rows(
            (f"{aet}.crt", f"the certificate, ends {expiry(this.bundle.certificate):%Y-%m-%d %H:%M} UTC"),
            ("", f"SHA-1 fingerprint {fingerprint(this.bundle.certificate)}"),
            _about_the_key(this),
            ("authority.crt", f"whom the modality shall trust, ends {expiry(this.bundle.authority):%Y-%m-%d}"),
        ),
        *_certificates_besides(this),
        "",
        "Test it with dcmtk 3.6.7 or newer, in this folder",
        *(f"  {command}" for command in commands(this)),
        "",
        *_when_refused(service),
        *_receiving(this),
    ]
    return "\n".join(lines) + "\n"


def commands(this: Handover) -> Iterator[str]:
    """dcmtk's command for each right that it has a program for (its getscu and movescu know no TLS)."""
    service = this.service
    who = f"-v -aet {this.aet} -aec {service.aet} {_tls(this)}"
    where = f"{service.host} {service.dicom_port}"
    yield f"echoscu {who} {where}"
    if "store" in this.rights.may:
        yield f"storescu {who} {where} IMAGE.dcm"
    if "find" in this.rights.may:
        yield f"findscu {who} -S -k QueryRetrieveLevel=STUDY -k StudyInstanceUID -k StudyDate={_ANY_DAY} {where}"


def _tls(this: Handover) -> str:
    return f"+tls {this.aet}.key {this.aet}.crt +cf authority.crt"


# A day on which no study is: the query is tried, and nobody's name comes back.
_ANY_DAY: Final = "19000101"


def _about_the_key(this: Handover) -> tuple[str, str]:
    if this.bundle.key is None:
        return f"{this.aet}.key", "not here: the modality made this key itself. Put it here to run the commands below"
    return f"{this.aet}.key", "the key, PEM without a passphrase. Whoever has it is this modality: store it there, and nowhere else"


def _certificates_besides(this: Handover) -> list[str]:
    older = [f"{number} (ends {_day(bundle)})" for number, bundle in sorted(this.in_force.items()) if number != this.number]
    return [f"  Also let in as {this.aet}, until it is struck: certificate {', '.join(older)}"] if older else []


def _when_refused(service: Service) -> list[str]:
    return wrapped(
        f"Each ends with exit code 0 and 'Success' (findscu with no match). 'Peer aborted Association': {service.aet} does not know this "
        f"certificate (any more), or not under this AE title, or the call came without TLS. 'certificate verify failed': authority.crt is "
        f"not the one that signed what answers there. 'TCP Initialization Error', or no answer: the network, or a firewall."
    )


def _receiving(this: Handover) -> list[str]:
    rights = this.rights
    if rights.address is None:
        return []
    return [
        "",
        f"Images are sent to it (C-MOVE) at {rights.address} port {rights.port}, over TLS",
        *wrapped(
            f"There it must show {this.aet}.crt, and should ask for a certificate of authority.crt. With dcmtk: "
            f"storescp -v {_tls(this)} -aet {this.aet} -od FOLDER {rights.port}",
            indent="  ",
        ),
    ]
