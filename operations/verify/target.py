"""Target: a service as somebody outside meets it, whoever runs it. Made from a stack's outputs, or from the demo's files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from config_templates.model import Right
from laptop.peer import Peer
from laptop.private import write_bundle
from laptop.site import Site
from laptop.tell import Trouble
from operations.deployed import Bundle, Deployed

Rights: TypeAlias = AbstractSet[Right]
TO_VERIFY: Rights = frozenset({"store", "find"})


@dataclass(frozen=True, kw_only=True)
class Login:
    name: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Modality:
    """An enrolled modality whose bundle (AET.crt, AET.key, authority.crt) lies in a folder here."""

    aet: str
    bundle: Path
    may: tuple[Right, ...]


@dataclass(frozen=True, kw_only=True)
class Target:
    """`authority` is PEM. `certificates` are the modalities' in force, PEM by AE title and number. None: it was not to be had.

    `short` is its name among files.
    """

    name: str
    short: str
    host: str
    dicom_port: int
    web_port: int
    aet: str
    authority: str
    modality: Modality | None
    admin: Login | None
    certificates: Mapping[tuple[str, int], str] = field(default_factory=dict)

    def other_title(self, modality: Modality) -> str:
        """An AE title that is not the modality's: another's that is enrolled, if there is one."""
        return min({aet for aet, _ in self.certificates} - {modality.aet}, default="NOT-ENROLLED")

    def peer(self, modality: Modality) -> Peer:
        return Peer(aet=modality.aet, bundle=modality.bundle, host=self.host, port=self.dicom_port, called=self.aet)


def of_stack(stack: str, found: Deployed, folder: Path, *, aet: str | None = None, to: Rights = TO_VERIFY) -> Target:
    """A stack on AWS. The bundle of one of its modalities (`aet`, if given) is written into `folder`, which the caller removes."""
    service = found.service
    with_key = {name: _newest_with_key(many) for name, many in found.modalities.items() if name in service.modalities}
    may = {name: service.modalities[name].may for name, bundle in with_key.items() if bundle is not None}
    chosen = _choose(f"the stack {stack}", may, aet, to)
    if chosen is not None and (bundle := with_key[chosen]) is not None and bundle.key is not None:
        key = bundle.key.get_secret_value()
        write_bundle(folder, chosen, certificate=bundle.certificate, authority=bundle.authority, key=key)
    admin = next((name for name in service.admins if name in found.passwords), None)
    return Target(
        name=f"the stack {stack}",
        short=stack,
        host=service.host,
        dicom_port=service.dicom_port,
        web_port=service.web_port,
        aet=service.aet,
        authority=found.authority,
        modality=None if chosen is None else Modality(aet=chosen, bundle=folder, may=may[chosen]),
        admin=None if admin is None else Login(name=admin, password=found.passwords[admin].get_secret_value()),
        certificates={(name, number): b.certificate for name, many in found.modalities.items() for number, b in many.items()},
    )


def _newest_with_key(many: Mapping[int, Bundle]) -> Bundle | None:
    """All certificates in force are let in: one whose key the modality keeps to itself is no reason to leave it out."""
    return next((many[number] for number in sorted(many, reverse=True) if many[number].key is not None), None)


def of_demo(home: Path, *, aet: str | None = None, to: Rights = TO_VERIFY) -> Target:
    """The demo on this machine, as its folder says. Nothing there is changed."""
    if not (home / "site.json").exists():
        raise Trouble(f"there is no demo in {home}: run 'make demo' first, or name a stack on AWS: STACK=dev")
    site, keys = Site.load(home), home / "keys"
    plan = site.plan
    with_key = {m.aet: m.may for m in plan.modalities if (home / "modalities" / m.aet / f"{m.aet}.key").exists()}
    chosen = _choose("the demo", with_key, aet, to)
    admin = next((user.name for user in plan.users if user.role == "admin" and site.has_password(user.name)), None)
    numbered = [(m.aet, number, keys / f"modality-{m.aet}-{number}.crt") for m in plan.modalities for number in m.certificates]
    return Target(
        name="the demo on this machine",
        short="demo",
        host="localhost",
        dicom_port=plan.dicom_port,
        web_port=plan.web_port,
        aet=plan.aet,
        authority=(keys / "outside-authority.crt").read_text(encoding="utf-8"),
        modality=None if chosen is None else Modality(aet=chosen, bundle=home / "modalities" / chosen, may=with_key[chosen]),
        admin=None if admin is None else Login(name=admin, password=site.password(admin)),
        certificates={(name, number): path.read_text(encoding="utf-8") for name, number, path in numbered if path.exists()},
    )


def _choose(where: str, with_key: Mapping[str, Iterable[Right]], aet: str | None, to: Rights) -> str | None:
    """The modality that was asked for, or the first of those that may do most of what is tried."""
    if aet is not None and aet not in with_key:
        known = ", ".join(sorted(with_key)) or "none"
        raise Trouble(f"{where} has no modality {aet} with a key that is known here. With a key: {known}.")
    if aet is not None or not with_key:
        return aet
    return min(sorted(with_key), key=lambda name: -len(to & set(with_key[name])))
