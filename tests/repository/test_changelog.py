"""CHANGELOG.md has the form that programs read, its releases are commits of this history, and a plan that is not what it says is found."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from datetime import date
from pathlib import Path

import pytest

from tests import changelog
from tests.changelog import CHANGELOG, ROOT, Change, changes, disagreement, files_of, git, needs, of_outputs, versions

TEXT = CHANGELOG.read_text(encoding="utf-8")
RELEASES = versions(TEXT)[1:]
HASH = "b29241bda5c70aff5e46553745ea912fd1a59cf0"
PAGE = f"""# Changelog

## Unreleased

### `pulumi up` from 0.2.0

- nothing

## 0.2.0 · 2027-02-01

Commit {HASH}.

- Better.
- Faster.

### `pulumi up` from 0.1.0

- `update aws:ssm/parameter:Parameter release-pointer`
- `create aws:cloudwatch/metricAlarm:MetricAlarm monitoring-*`: two new alarms

## 0.1.0 · 2026-11-28

Commit {HASH}.

- New.
"""

# -- the page --------------------------------------------------------------------------------------------------------------


def test_the_newest_comes_first_and_what_is_to_be_released_before_it() -> None:
    unreleased, *released = versions(TEXT)
    assert (unreleased.name, unreleased.date, unreleased.commit) == (None, None, None)
    numbers = [tuple(map(int, str(version.name).split("."))) for version in released]
    dates = [date.fromisoformat(str(version.date)) for version in released]
    assert numbers == sorted(set(numbers), reverse=True)
    assert dates == sorted(dates, reverse=True)


def test_the_page_is_read_as_it_is_meant() -> None:
    unreleased, second, first = versions(PAGE)
    assert (unreleased.name, unreleased.lines, unreleased.before, unreleased.changes) == (None, (), "0.2.0", ())
    assert (second.name, second.date, second.commit, second.lines) == ("0.2.0", "2027-02-01", HASH, ("- Better.", "- Faster."))
    assert [(change.operation, change.type, change.name, change.why) for change in second.changes] == [
        ("update", "aws:ssm/parameter:Parameter", "release-pointer", ""),
        ("create", "aws:cloudwatch/metricAlarm:MetricAlarm", "monitoring-*", "two new alarms"),
    ]
    assert (first.name, first.before, first.changes) == ("0.1.0", None, ())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("2027-02-01", "1 February"),
        (" · 2027-02-01", ""),
        (f"Commit {HASH}.\n\n- New", "- New"),
        (f"Commit {HASH}.\n\n- New", "Commit b29241b.\n\n- New"),
        ("- Faster.", "Faster."),
        ("### `pulumi up` from 0.2.0\n\n- nothing\n\n", ""),
        ("### `pulumi up` from 0.2.0", "### `pulumi up` from 0.1.0"),
        ("- nothing", "- nothing\n- `update a:b/c:D e`"),
        ("- nothing", "- `destroy a:b/c:D e`"),
        ("- nothing", "- update a:b/c:D e"),
        ("- nothing", "- nothing\n- A line that came below the list."),
    ],
)
def test_a_page_of_another_form_is_refused(right: str, wrong: str) -> None:
    assert PAGE.count(right) == 1
    with pytest.raises(ValueError, match=r"form|list|neither"):
        versions(PAGE.replace(right, wrong))


# -- releases --------------------------------------------------------------------------------------------------------------


def is_before(commit: str, later: str) -> bool:
    return subprocess.run(["git", "merge-base", "--is-ancestor", commit, later], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_a_release_is_a_commit_that_led_here_and_says_what_the_page_says(release: changelog.Version) -> None:
    commit = str(release.commit)
    needs(commit)
    assert is_before(commit, "HEAD")
    assert not is_before("HEAD", commit), "no commit can name itself: the one that names the release comes after it"
    assert tomllib.loads(git("show", f"{commit}:pyproject.toml").decode())["project"]["version"] == release.name
    then = git("show", f"{commit}:CHANGELOG.md").decode()
    assert [line for line in release.lines if line not in then] == [], "this came after the release: it belongs under Unreleased"
    tagged = git("for-each-ref", "--format=%(objectname) %(*objectname)", f"refs/tags/v{release.name}").decode().split()
    assert not tagged or commit in tagged


def test_a_history_that_was_cut_off_is_left_out_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("HEAD")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="unshallow"):
        needs("0" * 40)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="fetch-depth: 0"):
        needs("0" * 40)


def test_the_files_of_a_release_are_its_own(tmp_path: Path) -> None:
    (first,) = (release for release in RELEASES if release.name == "0.1.0")
    needs(str(first.commit))
    made = files_of(str(first.commit), tmp_path)
    assert "## 0.1.0" not in (made / "CHANGELOG.md").read_text(encoding="utf-8")
    assert (made / "infra/stack.py").exists()


def test_git_takes_a_release_as_the_page_says_and_leaves_what_a_stack_says(tmp_path: Path) -> None:
    last = str(RELEASES[0].commit)
    needs(last)
    page = (ROOT / "docs/upgrades.md").read_text(encoding="utf-8").partition("## This program\n")[2].partition("\n## ")[0]
    there, back = re.findall(r"(?ms)^```sh\n(.*?)^```", page)
    who = {f"GIT_{role}_{what}": "somebody@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    clone, origin = tmp_path / "clone", tmp_path / "origin"

    def shell(commands: str) -> str:
        environment = {**os.environ, **who, "GIT_PAGER": "cat", "GIT_CONFIG_GLOBAL": os.devnull}
        return subprocess.run(["sh", "-ec", commands], cwd=clone, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout

    def only_git(block: str) -> str:
        return "\n".join(line for line in block.splitlines() if line.startswith("git "))

    git("init", "--quiet", "--bare", "--initial-branch=main", str(origin))
    git("push", "--quiet", str(origin), f"{last}:refs/heads/main")
    git("clone", "--quiet", str(origin), str(clone))
    stack = clone / "Pulumi.prod.yaml"
    ours = stack.read_text(encoding="utf-8") + "  orthanc:aet: OURS\n"
    stack.write_text(ours, encoding="utf-8")
    shell("git commit --quiet --all --message 'What our stack says'")
    git("push", "--quiet", str(origin), "HEAD:refs/heads/main")

    said = shell(only_git(there).replace("RELEASE", git("rev-parse", "HEAD").decode().strip()))
    assert f"+## {RELEASES[0].name} · " in said, "the difference does not tell what is new"
    assert stack.read_text(encoding="utf-8") == ours
    assert (clone / "CHANGELOG.md").read_bytes() == git("show", "HEAD:CHANGELOG.md")
    shell(only_git(back))
    assert stack.read_text(encoding="utf-8") == ours
    assert (clone / "CHANGELOG.md").read_bytes() == git("show", f"{last}:CHANGELOG.md")
    assert "`git tag --delete before-upgrade`" in page
    shell("git tag --delete before-upgrade")


# -- what an up changes ----------------------------------------------------------------------------------------------------

PARENT = "urn:pulumi:prod::orthanc::orthanc:infra:"
DATABASE = f"{PARENT}EncryptedRds$aws:rds/instance:Instance::database-instance"
ARCHIVE = f"{PARENT}ConfigRelease$aws:s3/bucketObjectv2:BucketObjectv2::release-archive"
POINTER = f"{PARENT}ConfigRelease$aws:ssm/parameter:Parameter::release-pointer"
KEPT = {("aws:rds/instance:Instance", "database-instance")}
SAID = (
    Change("update", "aws:s3/bucketObjectv2:BucketObjectv2", "release-archive", "another agent"),
    Change("update", "aws:ssm/parameter:Parameter", "release-*"),
)
DONE = [("same", DATABASE), ("update", ARCHIVE), ("update", POINTER)]


def test_what_is_said_and_done_agrees() -> None:
    assert disagreement(SAID, changes(DONE), KEPT) == ""
    assert disagreement((), changes([("same", DATABASE), ("read", ARCHIVE)]), KEPT) == ""


def test_a_change_that_nobody_listed_is_found_with_the_line_that_lacks() -> None:
    done = changes([*DONE, ("update", DATABASE)]) | of_outputs(["url", "gone"], ["url", "new"])
    told = disagreement(SAID, done, KEPT)
    assert (
        "Done, and not said:\n- `create output new`\n- `delete output gone`\n- `update aws:rds/instance:Instance database-instance`\n"
        in told
    )
    assert "lost" not in told
    written = told.partition("from the last release:\n")[2]
    assert written.splitlines() == [
        "- `update aws:s3/bucketObjectv2:BucketObjectv2 release-archive`: another agent",
        "- `update aws:ssm/parameter:Parameter release-*`",
        "- `create output new`",
        "- `delete output gone`",
        "- `update aws:rds/instance:Instance database-instance`",
    ]
    (unreleased, *_) = versions(PAGE.replace("- nothing", written))
    assert disagreement(unreleased.changes, done, KEPT) == ""


def test_a_listed_change_that_does_not_happen_is_found() -> None:
    told = disagreement(SAID, changes([("update", POINTER)]), KEPT)
    assert "Said, and not done:\n- `update aws:s3/bucketObjectv2:BucketObjectv2 release-archive`: another agent\n" in told
    assert told.endswith("release:\n- `update aws:ssm/parameter:Parameter release-*`")
    assert disagreement(SAID, frozenset(), KEPT).endswith("release:\n- nothing")


def test_another_operation_on_a_listed_resource_is_found() -> None:
    told = disagreement(SAID, changes([("update", ARCHIVE), ("delete", POINTER)]), KEPT)
    assert "Done, and not said:\n- `delete aws:ssm/parameter:Parameter release-pointer`\n" in told


@pytest.mark.parametrize("steps", [["create-replacement", "replace", "delete-replaced"], ["delete-replaced", "replace"], ["delete"]])
def test_a_database_that_is_replaced_or_deleted_is_found_whatever_is_said(steps: list[str]) -> None:
    done = changes([*DONE, *((step, DATABASE) for step in steps)])
    assert len(done) == 3, "a replacement is one change"
    (change,) = done - changes(DONE)
    told = disagreement((*SAID, change), done, KEPT)
    assert told.startswith(f"What is kept would be lost, and no changelog may say so:\n{change}\n")
    assert disagreement((*SAID, change), done, set()) == ""
