"""The images of the service: the pinned ones, or stand-ins from Debian's packages where no registry can be reached."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from config_templates import pins
from laptop import tell
from laptop.docker import attempt, docker, image_id, remove_images
from laptop.tell import failed

_STANDINS = Path(__file__).parent / "standins"
_DEBIAN = "trixie"
# What docker says when there is no way to the registry; anything else (a wrong digest, a full disk) is no reason for stand-ins.
_UNREACHABLE = re.compile(
    r"(?i)no such host|dial tcp|connection refused|network is unreachable|timeout|deadline exceeded|proxyconnect|TLS handshake|EOF$"
)
_NO_WAY_OUT = (
    "no registry can be reached, and no stand-in could be built from Debian's packages",
    "Connect this machine to the internet, make room if its disk is full, and run the same command again.",
)
_BASE = f"orthanc-standin-base:{_DEBIAN}"


@dataclass(frozen=True, kw_only=True)
class Images:
    """What to run: references that `docker run` takes, each by digest or image id."""

    orthanc: str
    nginx: str
    postgres: str
    standins: bool


def obtain() -> Images:
    """The pinned images if they are here or can be pulled, else stand-ins (built once, and found again)."""
    pinned = {"orthanc": pins.ORTHANC_IMAGE, "nginx": pins.NGINX_IMAGE, "postgres": pins.POSTGRES_IMAGE}
    if all(image_id(reference) for reference in pinned.values()):
        return Images(**pinned, standins=False)
    built = {name: image_id(_tag(name)) for name in pinned}
    if all(built.values()):
        return Images(**{name: found or "" for name, found in built.items()}, standins=True)
    for reference in pinned.values():
        tell.detail(f"pulling {reference.partition('@')[0]}")
        pulled = attempt("pull", "--quiet", reference, seconds=1800)
        if pulled.returncode != 0:
            reason = (pulled.stderr.strip().splitlines() or ["docker said nothing"])[-1]
            if not _UNREACHABLE.search(reason):
                raise failed(f"the image {reference} could not be pulled", reason)
            tell.detail(f"no registry can be reached: {reason}")
            tell.detail("building stand-ins from Debian's packages instead: the same configuration, other versions, an older viewer")
            return _build(tuple(pinned))
    return Images(**pinned, standins=False)


def forget_standins() -> None:
    """Remove every stand-in image."""
    listed = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=orthanc-standin-*")
    remove_images([line for line in listed.splitlines() if line])


def _build(names: tuple[str, ...]) -> Images:
    if not image_id(_BASE):
        build_debian(_DEBIAN, _BASE)
    ids = {}
    for name in names:
        tell.detail(f"building the stand-in for {name}")
        # The classic builder needs no plugin; the network is the machine's, so that its package mirror is found.
        built = attempt(
            *("build", "--quiet", "--force-rm", "--network", "host", "--build-arg", f"BASE={_BASE}"),
            *("--tag", _tag(name), str(_STANDINS / name)),
            seconds=1800,
        )
        if built.returncode != 0:
            what, remedy = _NO_WAY_OUT
            raise failed(what, built.stdout + built.stderr, remedy)
        ids[name] = image_id(_tag(name)) or ""
    return Images(**ids, standins=True)


def _tag(name: str) -> str:
    """The stand-in's tag follows from what it is built from."""
    digest = hashlib.sha256(_DEBIAN.encode())
    for path in sorted((_STANDINS / name).iterdir()):
        digest.update(path.read_bytes())
    return f"orthanc-standin-{name}:{digest.hexdigest()[:12]}"


def build_debian(suite: str, tag: str) -> None:
    """A minimal Debian as an image, from the machine's own package mirror. Needs debootstrap, and root for its chroot."""
    prepared = subprocess.run([str(Path(__file__).parent / "prerequisites"), "debootstrap"], capture_output=True, text=True, check=False)
    if prepared.returncode != 0:
        what = "no image registry can be reached, and stand-ins can only be built on Debian or Ubuntu"
        raise failed(what, prepared.stderr, "Connect this machine to the internet, and run the same command again.")
    become_root = [] if os.geteuid() == 0 else ["sudo"]
    with TemporaryDirectory(prefix="orthanc-base-") as folder:
        root = Path(folder) / "root"
        tell.detail(f"making a minimal Debian {suite} with debootstrap{'' if not become_root else ' (as root, by sudo)'}")
        # Root's files have to be gone however it ends: whoever runs this could not remove them.
        script = (
            f"trap \"rm -rf --one-file-system '{root}'\" EXIT; trap 'exit 130' HUP INT TERM; "
            f"PATH=$PATH:/usr/sbin:/sbin debootstrap --variant=minbase {suite} '{root}' {_mirror()} >&2 && tar -C '{root}' -c ."
        )
        log = Path(folder) / "log"
        with (
            log.open("wb") as complaints,
            subprocess.Popen([*become_root, "sh", "-c", script], stdout=subprocess.PIPE, stderr=complaints) as bootstrap,
        ):
            imported = subprocess.run(["docker", "import", "-", tag], stdin=bootstrap.stdout, capture_output=True, text=True, check=False)
        if bootstrap.returncode != 0 or imported.returncode != 0:
            remove_images([tag])
            what, remedy = _NO_WAY_OUT
            raise failed(what, f"{imported.stderr}\n{log.read_text(errors='replace')}", remedy)


def _mirror() -> str:
    """The Debian mirror that this machine's apt uses ('' on another system: debootstrap's own default)."""
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Origin: Debian", "Label: Debian"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.splitlines()[0] if asked.returncode == 0 and asked.stdout else ""
