"""Files that only their owner may read, and a modality's bundle of them."""

from __future__ import annotations

import os
from pathlib import Path

from config_templates import Account


def private_directory(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)


def write(path: Path, text: str, mode: int = 0o600, owner: Account | None = None) -> None:
    """Write by rename, so that a reader or an interruption never meets half a file or one that it may not read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # or a power failure could leave the new name on an empty file
        if owner is not None:
            give(temporary, owner)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # a full disk's error does not say where
        raise


def give(path: Path, account: Account) -> None:
    if os.geteuid() == 0:
        os.chown(path, account.uid, account.gid)


def write_bundle(folder: Path, aet: str, *, certificate: str, authority: str, key: str | None) -> None:
    """What a modality's vendor needs: AET.crt, authority.crt, and AET.key unless the modality made its key itself."""
    private_directory(folder)
    write(folder / f"{aet}.crt", certificate)
    if key is not None:
        write(folder / f"{aet}.key", key)
    write(folder / "authority.crt", authority)
