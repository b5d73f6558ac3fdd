"""`make demo-backup` and `make demo-restore`: all studies in one file, by PostgreSQL's own tools.

A backup is the database alone. Keys and passwords are no part of it: a service that it is restored into has its own.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from laptop import preflight, tell
from laptop.database import INSIDE, sql
from laptop.demo import DEMO_AET, planned
from laptop.docker import check_engine, compose, exchange, running
from laptop.images import Images, obtain
from laptop.running import converge, down
from laptop.site import Site, place
from laptop.tell import Trouble

_DUMP: Final = ("pg_dump", "--username", "postgres", "--format", "custom", "--compress", "lz4", "--large-objects", "orthanc")
_READ: Final = ("pg_restore", "--file", "/dev/null")
# All or nothing. As Orthanc's role, to whom all of it belongs: giving each of a million large objects away, one by one, would need
# more locks at a time than the server has.
_RESTORE: Final = ("pg_restore", "--username", "postgres", "--dbname", "orthanc", "--no-owner", "--role", "orthanc", "--single-transaction")
_ANALYZE: Final = ("vacuumdb", "--username", "postgres", "--analyze-only", "--quiet", "orthanc")
_MAGIC: Final = b"PGDMP"


def back_up(home: Path, file: Path) -> None:
    """Write `file`, which only its owner may read, while the service runs. It appears when it is whole, and was read once more."""
    site = _served(home)
    _check_new(site, file)
    tell.step(f"A backup of {_held(site):,} large objects, an image each and little besides, to {file}")
    with _arriving(file) as arriving:
        _run(site, *_DUMP, sink=arriving)
        tell.detail(f"{os.fstat(arriving.fileno()).st_size / 1e6:,.1f} MB written; reading them again")
        os.lseek(arriving.fileno(), 0, os.SEEK_SET)
        _run(site, *_READ, source=arriving)
    tell.detail("whole. It holds patients' data in the clear: encrypt it before it leaves this machine")


def restore(home: Path, file: Path, *, dicom_port: int | None, web_port: int | None) -> None:
    """Bring a service up that holds what `file` holds. One that holds objects already is left as it is."""
    check_engine()
    with _opened(file) as backup:
        site = planned(home, dicom_port=dicom_port, web_port=web_port)
        preflight.check(site)
        images = obtain()
        site.save()
        tell.step("PostgreSQL")
        with _database(site, images):
            _check_empty(site)
            compose(site.home, "stop", "nginx", "orthanc")
            _check_empty(site)  # what came until then was acknowledged
            tell.step(f"{file}, {os.fstat(backup.fileno()).st_size / 1e6:,.1f} MB")
            # What an Orthanc that held nothing has made; without one it is nothing.
            sql(site.home, "DROP OWNED BY orthanc")
            _run(site, *_RESTORE, source=backup)
            _run(site, *_ANALYZE)
    tell.step("Orthanc and nginx")
    converge(site, images)
    site.write_bundle(DEMO_AET)
    tell.detail(f"running, with {_held(site):,} large objects, and keys and passwords of its own, in {home}")
    tell.detail("modalities have to be enrolled ('make demo-enrol'), and people to be told their passwords; 'make demo' says the rest")


# -- the service -----------------------------------------------------------------------------------------------------------


def _served(home: Path) -> Site:
    check_engine()
    site = Site.load(home)
    if not (home / "site.json").exists() or not running(site.plan.project, "postgres"):
        raise Trouble("there is no demo that runs here, and so nothing to back up: run 'make demo' first.")
    return site


@contextmanager
def _database(site: Site, images: Images) -> Iterator[None]:
    """With PostgreSQL running, whatever did before. When it fails, what served goes on, and what did not is not left half-started."""
    served = running(site.plan.project, "postgres")
    try:
        place(site, site.files(images))
        compose(site.home, "up", "--detach", "--wait", "--pull", "never", "postgres")
        yield
    except BaseException:  # Ctrl-C too
        if served:
            converge(site, images)
        else:
            down(site)
        raise


def _check_empty(site: Site) -> None:
    if held := _held(site):
        raise Trouble(
            f"the service in {site.home} holds {held:,} large objects, images that is, and a restore would replace them. "
            f"Restore in another clone of this repository, or give them up ('make demo-clean') and run the same command again."
        )


def _held(site: Site) -> int:
    """Large objects: the images, and a few notes of Orthanc's on some. They can be counted before Orthanc has made its tables, too."""
    return int(sql(site.home, "SELECT count(*) FROM pg_largeobject_metadata"))


def _run(site: Site, *command: str, source: BinaryIO | None = None, sink: BinaryIO | None = None) -> None:
    exchange(site.home, *INSIDE, *command, source=source, sink=sink, what=command[0])


# -- the file --------------------------------------------------------------------------------------------------------------


def _check_new(site: Site, file: Path) -> None:
    if file.exists():
        raise Trouble(f"{file} is there already, and no backup is written over anything. Give another name: FILE=...")
    if not file.parent.is_dir():
        raise Trouble(f"there is no folder {file.parent}. Make it, or give another name: FILE=...")
    if site.home.resolve() in file.resolve().parents:
        raise Trouble(f"{file} lies in {site.home}, and would go with it ('make demo-clean'). Give a name elsewhere: FILE=...")


@contextmanager
def _arriving(file: Path) -> Iterator[BinaryIO]:
    """A file beside `file`, which gets its name when it is whole. What a run that was killed has left of one is written over."""
    path = file.with_name(f"{file.name}.part")
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as arriving:
        try:
            fcntl.flock(arriving, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble(f"another backup is being written to {path}. Wait for it, or give another name: FILE=...") from None
        try:
            path.chmod(0o600)
            arriving.truncate()
            yield arriving
            os.fsync(arriving.fileno())  # or a power failure could leave the new name on half of it
            path.replace(file)
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                error.filename = error.filename or str(file)  # a full disk's error does not say where
            raise


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        backup = file.open("rb", buffering=0)  # so that pg_restore reads from where this leaves off
    except (FileNotFoundError, IsADirectoryError):
        raise Trouble(f"there is no file {file}. Name the one that 'make demo-backup' has written: FILE=...") from None
    with backup:
        if backup.read(len(_MAGIC)) != _MAGIC:
            raise Trouble(f"{file} is no backup: it does not begin as pg_dump's custom format does. Name another one: FILE=...")
        backup.seek(0)
        yield backup
