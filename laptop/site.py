"""One imaging service on this machine: what it says (site.json), its keys and passwords, and how it is brought to run.

HOME/site.json       what the service is: ports, users, modalities
HOME/keys/           authorities, certificates and keys, passwords; the originals
HOME/modalities/     for each modality the bundle that its vendor needs
HOME/compose.yaml    rendered
HOME/taken.json      digests of the files that the running containers have taken
HOME/run/            the stable directories that the containers mount, each for its one user
HOME/scratch/        Orthanc's temporary files
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import socket
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config_templates import Account, Container, Database, Limits, Modality, RotatedFiles, Service, User, places, render
from config_templates.model import Aet, Host, Port, Right, fingerprint
from laptop import certificates
from laptop.certificates import Pair, Profile, Usage
from laptop.images import Images
from laptop.private import give, private_directory, write, write_bundle
from laptop.tell import Trouble, complaints

Side: TypeAlias = Literal["outside", "inside", "orthanc"]
_INSIDE: Mapping[str, tuple[Side, tuple[Usage, ...], str]] = {
    "orthanc": ("orthanc", ("server", "client"), places.ORTHANC_HOST),
    "gateway": ("inside", ("server", "client"), places.GATEWAY_HOST),
    "probe": ("inside", ("client",), "probe.inside"),
    "postgres": ("inside", ("server",), places.DATABASE_HOST),
}
_DATABASE = Database(host=places.DATABASE_HOST)
_RENEW_BEFORE = timedelta(days=30)
_PASSWORD_LETTERS = string.ascii_letters + string.digits


class Enrolment(BaseModel):
    """A modality as the site's owner says it. Each number in `certificates` is one certificate in force; 1, then 2 beside it …"""

    model_config = ConfigDict(frozen=True, extra="forbid")
    aet: Aet
    may: tuple[Right, ...] = ("store", "find", "move", "get")
    address: Host | None = None
    port: Port | None = None
    certificates: tuple[int, ...] = Field(default=(1,), min_length=1)


class Plan(BaseModel):
    """site.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    project: str = "orthanc"
    aet: Aet = "ORTHANC"
    dicom_port: Port = 11112
    web_port: Port = 8443
    users: tuple[User, ...] = (User(name="admin", role="admin"), User(name="reader", role="reader"))
    modalities: tuple[Enrolment, ...] = ()
    limits: Limits = Limits()


@dataclass(frozen=True)
class Site:
    """A plan and the folder that its files live in."""

    home: Path
    plan: Plan

    @classmethod
    def load(cls, home: Path) -> Site:
        """What HOME/site.json says, or a new plan when there is none. Raises Trouble when it can't be read."""
        path = home / "site.json"
        if not path.exists():
            return cls(home, Plan())
        try:
            return cls(home, Plan.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise Trouble(f"{path} can't be used: {complaints(error)}. Mend it, or remove it to begin anew.") from None

    def save(self) -> None:
        private_directory(self.home)
        write(self.home / "site.json", self.plan.model_dump_json(indent=2) + "\n")

    def with_plan(self, **changes: object) -> Site:
        """The same site with some values of its plan changed."""
        return Site(self.home, Plan.model_validate({**self.plan.model_dump(), **changes}))

    def enrolled(self, enrolment: Enrolment) -> Site:
        """This site with that modality, in place of one of the same AE title."""
        others = [m for m in self.plan.modalities if m.aet != enrolment.aet]
        return self.with_plan(modalities=[m.model_dump() for m in (*others, enrolment)])

    def struck(self, aet: str) -> Site:
        """This site without that modality. Its keys stay: enrolled again under the same number, the same certificate is let in."""
        return self.with_plan(modalities=[m.model_dump() for m in self.plan.modalities if m.aet != aet])

    @property
    def run(self) -> Path:
        return self.home / "run"

    def taken(self) -> Mapping[str, str]:
        """The digests of the files that the running containers have taken; empty before the first time."""
        path = self.home / "taken.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
        except ValueError:  # as if nothing had been taken: all is taken once more
            return {}

    def take(self, digests: Mapping[str, str]) -> None:
        write(self.home / "taken.json", json.dumps(digests, indent=2, sort_keys=True))

    # -- keys and passwords -------------------------------------------------------------------------------------------

    def authority(self, side: Side) -> Pair:
        """Outside: the server's and the modalities' certificates. Inside: whoever calls Orthanc, and PostgreSQL.

        Orthanc: its own certificate alone. It has one for both directions, DICOM server and client; were it of the inside
        authority, which Orthanc trusts, whoever stole it could call Orthanc with it.
        """
        kind: certificates.KeyKind = "rsa" if side == "outside" else "ecdsa"
        stored = self._stored(f"{side}-authority")
        return stored or self._keep(f"{side}-authority", certificates.make_authority(f"{self.plan.project} {side} authority", kind))

    def server(self) -> Pair:
        profile = Profile(kind="rsa", usages=("server",), names=own_names(), days=certificates.SERVER_DAYS)
        return self._leaf("server", "outside", profile)

    def inside(self, name: Literal["orthanc", "gateway", "probe", "postgres"]) -> Pair:
        side, usages, host = _INSIDE[name]
        return self._leaf(name, side, Profile(kind="ecdsa", usages=usages, names=[host], days=certificates.SERVER_DAYS))

    def outgoing(self) -> Pair:
        profile = Profile(kind="rsa", usages=("client",), names=["outgoing.orthanc"], days=certificates.SERVER_DAYS)
        return self._leaf("outgoing", "outside", profile)

    def modality(self, aet: str, number: int) -> Pair:
        names, days = [places.modality_host(aet)], certificates.MODALITY_DAYS
        return self._leaf(f"modality-{aet}-{number}", "outside", Profile(kind="rsa", usages=("client", "server"), names=names, days=days))

    def has_password(self, name: str) -> bool:
        return self._password_file(name).exists()

    def _password_file(self, name: str) -> Path:
        return self.home / "keys" / f"{name}.password"

    def password(self, name: str) -> str:
        """The password called `name`, made at its first use. Letters and digits: no file or URI needs to quote it."""
        path = self._password_file(name)
        if not path.exists():
            write(path, "".join(secrets.choice(_PASSWORD_LETTERS) for _ in range(32)))
        if not (kept := path.read_text(encoding="utf-8")):
            raise Trouble(f"{path} is empty. Restore it from a copy; without one, 'make demo-clean' gives up the studies and begins anew.")
        return kept

    def _stored(self, name: str) -> Pair | None:
        folder = self.home / "keys"
        private_directory(folder)
        crt, key = folder / f"{name}.crt", folder / f"{name}.key"
        if not (crt.exists() and key.exists()):
            return None
        try:
            pair = Pair(certificate=crt.read_text(encoding="utf-8"), key=key.read_text(encoding="utf-8"))
            # A renewal that was cut off between its two files leaves a new certificate beside the old key.
            usable = certificates.belong_together(pair) and certificates.expiry(pair.certificate) - datetime.now(UTC) > _RENEW_BEFORE
        except ValueError:
            remedy = "Restore them from a copy, or remove both: new ones are made then, which whoever trusts the old ones has to be given"
            raise Trouble(f"{crt} or {key.name} is damaged. {remedy}.") from None
        return pair if usable else None

    def _keep(self, name: str, pair: Pair) -> Pair:
        write(self.home / "keys" / f"{name}.crt", pair.certificate)
        write(self.home / "keys" / f"{name}.key", pair.key)
        return pair

    def _leaf(self, name: str, side: Side, profile: Profile) -> Pair:
        """The certificate called `name`; made anew when it is missing, due, or of another authority."""
        authority = self.authority(side)
        stored = self._stored(name)
        if stored and certificates.signed_by(stored.certificate, authority.certificate):
            return stored
        return self._keep(name, certificates.issue(authority, name, profile))

    # -- what the containers get --------------------------------------------------------------------------------------

    def fingerprint(self, aet: str, number: int) -> str:
        return fingerprint(self.modality(aet, number).certificate)

    def service(self, images: Images, fingerprint_of: Callable[[str, int], str] | None = None) -> Service:
        """The plan as the values that the files are rendered from. Raises Trouble when they don't fit together."""
        fingerprint_of = fingerprint_of or self.fingerprint
        accounts = container_accounts()
        try:
            return Service(
                project=self.plan.project,
                aet=self.plan.aet,
                orthanc=Container(image=images.orthanc, account=accounts["orthanc"], memory_mb=3072),
                nginx=Container(image=images.nginx, account=accounts["nginx"], memory_mb=320),
                postgres=Container(image=images.postgres, account=accounts["postgres"], memory_mb=2560),
                run_dir=str(self.run),
                scratch_dir=str(self.home / "scratch"),
                dicom_port=self.plan.dicom_port,
                web_port=self.plan.web_port,
                database=_DATABASE,
                users=self.plan.users,
                modalities=tuple(
                    Modality(
                        aet=m.aet,
                        may=m.may,
                        address=m.address,
                        port=m.port,
                        certificates=tuple(fingerprint_of(m.aet, number) for number in m.certificates),
                    )
                    for m in self.plan.modalities
                ),
                logs=RotatedFiles(),
                limits=self.plan.limits,
            )
        except ValidationError as error:
            remedy = "Mend the file, or what was asked for, and run the same command again"
            raise Trouble(f"{self.home / 'site.json'} does not fit together: {complaints(error)}. {remedy}.") from None

    def secret_files(self) -> Mapping[str, str]:
        """What lies beside the rendered files in the run directories: see places.SECRETS."""
        outside, inside, only_orthanc = (self.authority(side).certificate for side in ("outside", "inside", "orthanc"))
        orthanc, gateway, probe = self.inside("orthanc"), self.inside("gateway"), self.inside("probe")
        server, outgoing, postgres = self.server(), self.outgoing(), self.inside("postgres")
        users = {user.name: self.password(user.name) for user in self.plan.users} | {"probe": self.password("probe")}
        return {
            "orthanc/users.json": json.dumps({"RegisteredUsers": users}, indent=2),
            "orthanc/pgpass": f"{_DATABASE.host}:{_DATABASE.port}:*:{_DATABASE.user}:{self.password('database')}\n",
            "orthanc/database-authority.crt": inside,
            "orthanc/inside-authority.crt": inside,
            "orthanc/orthanc.crt": orthanc.certificate,
            "orthanc/orthanc.key": orthanc.key,
            "orthanc/orthanc.pem": orthanc.certificate + orthanc.key,
            "probe/orthanc-authority.crt": only_orthanc,
            "probe/probe.crt": probe.certificate,
            "probe/probe.key": probe.key,
            "probe/password": self.password("probe"),
            "nginx/outside-authority.crt": outside,
            "nginx/orthanc-authority.crt": only_orthanc,
            "nginx/server.crt": server.certificate,
            "nginx/server.key": server.key,
            "nginx/web.crt": server.certificate,
            "nginx/web.key": server.key,
            "nginx/gateway.crt": gateway.certificate,
            "nginx/gateway.key": gateway.key,
            "nginx/outgoing.crt": outgoing.certificate,
            "nginx/outgoing.key": outgoing.key,
            "postgres/server.crt": postgres.certificate,
            "postgres/server.key": postgres.key,
            "postgres/superuser-password": self.password("database-superuser"),
            "postgres/superuser.pgpass": f"*:*:*:postgres:{self.password('database-superuser')}\n",
            "postgres/orthanc-password": self.password("database"),
        }

    def files(self, images: Images) -> Mapping[str, str]:
        """Everything that lies below run/, and compose.yaml."""
        return {**render(self.service(images)), **self.secret_files()}

    def write_bundle(self, aet: str) -> Path:
        """Write what the modality's vendor needs, HOME/modalities/AET/, and return that folder."""
        enrolment = next(m for m in self.plan.modalities if m.aet == aet)
        pair = self.modality(aet, max(enrolment.certificates))
        folder = self.home / "modalities" / aet
        private_directory(folder.parent)
        write_bundle(folder, aet, certificate=pair.certificate, authority=self.authority("outside").certificate, key=pair.key)
        return folder


def container_accounts() -> Mapping[str, Account]:
    """Who the containers run as: as root, users of their own; else whoever runs this, who could not give files away.

    The numbers are those of the official images' own users; postgres gets another than Orthanc's 999.
    """
    if os.geteuid() != 0:
        own = Account(uid=os.getuid(), gid=pwd.getpwuid(os.getuid()).pw_gid)  # not getgid: it depends on how one logged in
        return {"orthanc": own, "nginx": own, "postgres": own}
    return {"orthanc": Account(uid=999, gid=999), "nginx": Account(uid=101, gid=101), "postgres": Account(uid=998, gid=998)}


def own_names() -> list[str]:
    """The names and addresses under which this machine is reached."""
    names = ["localhost", "127.0.0.1", "::1"]
    host = socket.gethostname()
    if host and host.isascii() and all(part.strip("-") and part.replace("-", "").isalnum() for part in host.split(".")):
        names.append(host.lower())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which address would be used
            names.append(probe.getsockname()[0])
        except OSError:
            pass  # no network
    return list(dict.fromkeys(names))


def place(site: Site, files: Mapping[str, str]) -> set[str]:
    """Make run/ hold exactly `files`, each readable by its container's user alone. Returns the names of those that changed."""
    accounts = container_accounts()
    before = placed(site)
    private_directory(site.home)
    site.run.mkdir(exist_ok=True)
    for directory, (container, _) in places.MOUNTS.items():
        folder = site.run / directory
        folder.mkdir(exist_ok=True)
        folder.chmod(0o500 if os.geteuid() == 0 else 0o700)
        give(folder, accounts[container])
    scratch = site.home / "scratch"
    private_directory(scratch)
    give(scratch, accounts["orthanc"])
    for name in before.keys() - files.keys():
        _path(site, name).unlink()
    for name, text in files.items():
        if before.get(name) != text:
            directory = name.rpartition("/")[0]
            owner = accounts[places.MOUNTS[directory][0]] if directory else None
            write(_path(site, name), text, 0o400, owner)
    return {name for name in before.keys() | files.keys() if before.get(name) != files.get(name)}


def placed(site: Site) -> Mapping[str, str]:
    """What lies below run/ now, and compose.yaml."""
    found = {}
    for directory in places.MOUNTS:
        folder = site.run / directory
        for path in sorted(folder.iterdir()) if folder.exists() else ():
            found[f"{directory}/{path.name}"] = path.read_text(encoding="utf-8", errors="replace")
    compose = site.home / "compose.yaml"
    if compose.exists():
        found["compose.yaml"] = compose.read_text(encoding="utf-8", errors="replace")
    return found


def _path(site: Site, name: str) -> Path:
    return site.home / name if name == "compose.yaml" else site.run / name


def forget(home: Path) -> None:
    """Remove a site's folder with its keys."""
    shutil.rmtree(home)
