"""The image that hosts boot from: a Debian whose systemd, cloud-init and aws CLI are real. See rootfs/Dockerfile."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from laptop.docker import docker, image_id, remove_images
from laptop.images import build_debian

_PARTS: Final = Path(__file__).parent / "rootfs"
_SUITE: Final = "bookworm"  # its systemd and Docker are near Amazon Linux 2023's, and run on control groups of version 1 too
_PYTHON: Final = "3.11"  # of that suite
_BASE: Final = f"rehearsal-base:{_SUITE}"


def obtain() -> str:
    """The image that is the same for every rehearsal: built once, found again until its recipe changes."""
    digest = hashlib.sha256(_SUITE.encode())
    for path in sorted(_PARTS.iterdir()):
        digest.update(path.read_bytes())
    tag = f"rehearsal-host:{digest.hexdigest()[:12]}"
    if not image_id(tag):
        if not image_id(_BASE):
            build_debian(_SUITE, _BASE)
        with TemporaryDirectory(prefix="rehearsal-rootfs-") as folder:
            context = Path(folder) / "rootfs"
            shutil.copytree(_PARTS, context)
            wheels = ("download", "--quiet", "--requirement", str(_PARTS / "requirements.txt"), "--dest", str(context / "wheels"))
            subprocess.run([sys.executable, "-m", "pip", *wheels, "--python-version", _PYTHON, "--only-binary", ":all:"], check=True)
            docker("build", "--quiet", "--network", "host", "--build-arg", f"BASE={_BASE}", "--tag", tag, str(context), seconds=1800)
    return tag


@contextmanager
def knowing(authority: str, environment: Mapping[str, str], name: str, home: Path) -> Iterator[str]:
    """That image for one rehearsal: its authority is trusted, and every service finds `environment` in its own."""
    home.mkdir()
    (home / "authority.crt").write_text(authority, encoding="utf-8")
    said = " ".join(f'"{key}={value}"' for key, value in environment.items())
    (home / "environment.conf").write_text(f"[Manager]\nDefaultEnvironment={said}\n", encoding="utf-8")
    (home / "Dockerfile").write_text(
        f"FROM {obtain()}\n"
        "COPY authority.crt /usr/local/share/ca-certificates/rehearsal.crt\n"
        "COPY environment.conf /etc/systemd/system.conf.d/rehearsal.conf\n"
        "RUN update-ca-certificates\n",
        encoding="utf-8",
    )
    try:
        docker("build", "--quiet", "--tag", name, str(home))
        yield name
    finally:
        remove_images([name])
