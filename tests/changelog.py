"""CHANGELOG.md as a program reads it: what was released when, from which commit, and what an `up` from one to the next changes."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from tests.lacking import leave_out

ROOT = Path(__file__).resolve().parent.parent
CHANGELOG: Final = ROOT / "CHANGELOG.md"
# A section: its heading, a release's commit, a line for each change, and what an `up` from the release before it changes.
_SECTION = re.compile(
    r"## (?:Unreleased|(?P<name>\d+\.\d+\.\d+) · (?P<date>\d{4}-\d\d-\d\d)\n\nCommit (?P<commit>[0-9a-f]{40})\.)\n"
    r"(?:\n(?P<lines>(?:- .+\n)+))?"
    r"(?:\n### `pulumi up` from (?P<before>\d+\.\d+\.\d+)\n\n(?P<changes>(?:- .+\n)+))?"
)
_CHANGE = re.compile(r"- `(create|update|replace|delete) (\S+) (\S+)`(?:: (.+))?")
NOTHING: Final = "- nothing"
# What the engine's steps come to. The steps of a replacement are three, in an order that the resource chooses.
_OPERATIONS: Final[Mapping[str, str | None]] = {
    "same": None,
    "read": None,
    "create": "create",
    "update": "update",
    "delete": "delete",
    "replace": "replace",
    "create-replacement": "replace",
    "delete-replaced": "replace",
}


@dataclass(frozen=True, order=True)
class Change:
    """What an `up` does to a resource, or to an output. In the changelog its name may be a pattern."""

    operation: str
    type: str
    name: str
    why: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"- `{self.operation} {self.type} {self.name}`" + (f": {self.why}" if self.why else "")

    def covers(self, other: Change) -> bool:
        return (self.operation, self.type) == (other.operation, other.type) and fnmatchcase(other.name, self.name)


@dataclass(frozen=True, kw_only=True)
class Version:
    """One section: a release, or (without name, date and commit) what is to be one."""

    name: str | None
    date: str | None
    commit: str | None
    lines: tuple[str, ...]
    before: str | None
    changes: tuple[Change, ...]


# -- the page --------------------------------------------------------------------------------------------------------------


def versions(text: str) -> Sequence[Version]:
    """All sections, the newest first; ValueError where the page has another form."""
    found = [_version(section) for section in re.split(r"(?m)^(?=## )", text)[1:]]
    for version, before in zip(found, [*found[1:], None], strict=True):
        if version.before != (before.name if before else None):
            raise ValueError(
                f"{version.name or 'Unreleased'}: no list of what `pulumi up` changes from the release below it, or of another"
            )
    return found


def _version(section: str) -> Version:
    said = _SECTION.fullmatch(section.rstrip("\n") + "\n")
    if said is None:
        raise ValueError(f"a section of another form than CONTRIBUTING.md, A release, says: {section}")
    return Version(
        name=said["name"],
        date=said["date"],
        commit=said["commit"],
        lines=tuple((said["lines"] or "").splitlines()),
        before=said["before"],
        changes=tuple(_changes((said["changes"] or NOTHING).splitlines())),
    )


def _changes(lines: Sequence[str]) -> Iterator[Change]:
    for line in lines if lines != [NOTHING] else []:
        said = _CHANGE.fullmatch(line)
        if said is None:
            raise ValueError(f"neither '{NOTHING}' alone nor '- `OPERATION TYPE NAME`: why': {line}")
        yield Change(said[1], said[2], said[3], said[4] or "")


# -- what happens ----------------------------------------------------------------------------------------------------------


def identity(urn: str) -> tuple[str, str]:
    """A resource's type and name."""
    _, _, types, name = urn.split("::", 3)
    return types.rpartition("$")[2], name


def changes(steps: Iterable[tuple[str, str]]) -> frozenset[Change]:
    """What the engine's steps, each an operation and a URN, change."""
    return frozenset(Change(operation, *identity(urn)) for step, urn in steps if (operation := _OPERATIONS[step]))


def of_outputs(before: Collection[str], after: Collection[str]) -> frozenset[Change]:
    """Outputs that came and went, for whoever reads them by name. The engine has no steps for them."""
    came, went = set(after) - set(before), set(before) - set(after)
    return frozenset({Change("create", "output", name) for name in came} | {Change("delete", "output", name) for name in went})


def lost(done: Collection[Change], kept: Collection[tuple[str, str]]) -> Sequence[Change]:
    """What is done to a kept resource that it does not survive."""
    return sorted(change for change in done if change.operation in {"replace", "delete"} and (change.type, change.name) in kept)


def disagreement(said: Sequence[Change], done: Collection[Change], kept: Collection[tuple[str, str]]) -> str:
    """Where what is done is not what is said, or loses what is kept, and what to write instead; empty where all is well."""
    told = []
    if gone := lost(done, kept):
        told += ["What is kept would be lost, and no changelog may say so:", *map(str, gone), ""]
    unsaid = sorted(change for change in done if not any(line.covers(change) for line in said))
    undone = [line for line in said if not any(line.covers(change) for change in done)]
    if unsaid or undone:
        told += ["Done, and not said:", *(map(str, unsaid) if unsaid else [NOTHING]), ""]
        told += ["Said, and not done:", *(map(str, undone) if undone else [NOTHING]), ""]
        right = [str(line) for line in (*said, *unsaid) if line not in undone]
        told += [
            "If that is meant, this stands in CHANGELOG.md under Unreleased, `pulumi up` from the last release:",
            *(right or [NOTHING]),
        ]
    return "\n".join(told)


# -- history ---------------------------------------------------------------------------------------------------------------


def git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout


def needs(commit: str) -> None:
    """Leave a test out where history was cut off."""
    held = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True, check=False)
    if held.returncode != 0:
        lacking = f"this clone's history lacks {commit}: git fetch --unshallow (in a workflow: fetch-depth: 0)"
        leave_out(lacking)


def files_of(commit: str, folder: Path) -> Path:
    """The files of that commit, put into an empty folder."""
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as tar:
        tar.extractall(folder, filter="data")
    return folder
