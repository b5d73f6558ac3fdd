"""All is lost but a backup: a new service, with new keys and passwords, gives every image back as it was."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

from laptop import demo, study
from laptop.database import sql
from laptop.docker import docker
from operations.archive.folder import examine
from operations.archive.sender import Sender
from operations.archive.web import Web
from operations.verify.archive import Archive
from operations.verify.target import of_demo
from tests.laptop.clone import Clone
from tests.service.stack import OTHER_PROJECT, left_of

COMPRESSED = ("693_J2KI.dcm", "JPEG2000.dcm", "SC_rgb_rle.dcm", "image_dfl.dcm")
# PostgreSQL has room for some 6,000 locks (max_connections times max_locks_per_transaction): a restore must not need one for each object.
MANY = 20_000


def begin(clone: Clone) -> None:
    """The demo, with objects in several transfer syntaxes, and as many large objects as a middling archive has."""
    assert clone.run("demo").code == 0
    send(clone, *COMPRESSED)
    assert sql(clone.home, f"SET ROLE orthanc; SELECT count(lo_from_bytea(0, 'x')) FROM generate_series(1, {MANY})") == str(MANY)  # noqa: S608


def send(clone: Clone, *samples: str) -> None:
    target = of_demo(clone.home)
    assert target.modality is not None
    sender = Sender(target.peer(target.modality))
    for name in samples:
        path = get_testdata_file(name)
        assert isinstance(path, str)
        header = examine(path)
        sender.send(path, os.stat(path).st_size, header, {header})  # noqa: PTH116
    sender.close()


def held(clone: Clone) -> Mapping[str, tuple[str, str, str]]:
    """Of each object the hashes of its pixels, of its other elements, and of the whole file, by Orthanc's identifier."""
    target = of_demo(clone.home)
    asked = Web(target, Archive(target).context)
    found = {}
    for identifier in asked.json("/instances"):
        with asked.answer(f"/instances/{identifier}/file") as answer:
            data = answer.read()
        image = pydicom.dcmread(BytesIO(data))
        pixels = hashlib.sha256(image.PixelData).hexdigest()
        del image.PixelData
        found[identifier] = pixels, hashlib.sha256(image.to_json().encode()).hexdigest(), hashlib.sha256(data).hexdigest()
    asked.close()
    return found


def secrets_of(clone: Clone) -> set[str]:
    passwords = {path.read_text() for path in (clone.home / "keys").glob("*.password")}
    keys = {path.read_text().splitlines()[1] for path in (clone.home / "keys").glob("*.key")}
    assert len(passwords) == 5
    return passwords | keys


def test_every_image_comes_back_as_it_was_into_a_service_with_new_keys(clone: Clone, tmp_path: Path) -> None:
    begin(clone)
    file = tmp_path / "studies.dump"
    before, secrets = held(clone), secrets_of(clone)
    assert len(before) == 202 + len(COMPRESSED)
    said = clone.run("backup", str(file))
    assert (said.code, said.err) == (0, ""), said.err
    assert "large objects, an image each and little besides" in said.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
    assert clone.run("backup", str(file)).error().startswith(f"{file} is there already, and no backup is written over anything")
    no_secret_in(clone, file, secrets)

    demo.remove(clone.home)
    assert left_of(OTHER_PROJECT) == []
    clone.plan(project=OTHER_PROJECT)

    half = tmp_path / "half.dump"
    half.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "end of file" in clone.run("restore", str(half)).error()
    assert docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={OTHER_PROJECT}") == "", (
        "nothing is half-started"
    )

    said = clone.run("restore", str(file))
    assert (said.code, said.err) == (0, ""), said.err
    assert held(clone) == before
    assert int(sql(clone.home, "SELECT count(*) FROM pg_largeobject_metadata")) >= len(before) + MANY
    assert secrets.isdisjoint(secrets_of(clone))
    assert sql(clone.home, "SELECT DISTINCT lomowner::regrole FROM pg_largeobject_metadata") == "orthanc"
    owners = "SELECT DISTINCT relowner::regrole FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public'"
    assert sql(clone.home, owners) == "orthanc"

    target = of_demo(clone.home)
    assert target.modality is not None
    assert target.peer(target.modality).store(study.series(slices=3, seed="after the restore")) == 3
    assert len(held(clone)) == len(before) + 3

    assert "large objects, images that is, and a restore would replace them" in clone.run("restore", str(file)).error()
    assert len(held(clone)) == len(before) + 3, "it serves on, with all that it held"


def no_secret_in(clone: Clone, file: Path, secrets: set[str]) -> None:
    """In the whole dump as text, where what large objects hold is hexadecimal."""
    command = ("exec", "-T", "postgres", "pg_restore", "--file", "-")
    with file.open("rb") as dump:
        text = subprocess.run(
            ["docker", "compose", "--file", str(clone.home / "compose.yaml"), *command], stdin=dump, capture_output=True, check=True
        ).stdout
    assert b"CREATE TABLE public.resources" in text, "it is the dump as text"
    for secret in secrets:
        assert secret.encode() not in text
        assert secret.encode().hex().encode() not in text
    assert b"PASSWORD" not in text.upper()
