"""The Makefile: what is said to make arrives in the program that it calls, word for word."""

from __future__ import annotations

import re
import shlex
import subprocess
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from os import environ
from pathlib import Path
from typing import Any

import pytest

import laptop.commands
import operations.__main__
import rehearsal.__main__
import tests.mutation.__main__
from tests.unit.recording import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
# No variable is theirs: .ci/run and .github/workflows run them, or tests of this folder do.
WITHOUT_VARIABLES = {"help", "test", "test-fast", "docs", "check"}

PARSERS: Mapping[str, Callable[[], ArgumentParser]] = {
    "laptop": laptop.commands.parser,
    "operations": operations.__main__.parser,
    "tests.mutation": tests.mutation.__main__.parser,
}


def called(target: str, **variables: str) -> tuple[str, Sequence[str]]:
    """The module that a target would run, and its arguments, as the shell would part them."""
    words = [f"{name}={value}" for name, value in variables.items()]
    # Without our own environment: make takes variables from there, too, and this may be `make test`.
    said = subprocess.run(
        ["make", "-n", "--no-print-directory", target, *words],
        cwd=ROOT,
        env={"PATH": environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    (line,) = (line for line in said.stdout.splitlines() if re.search(r"\.venv/bin/python -m (?!pip|venv)", line))
    all_words = shlex.split(line)
    at = all_words.index(".venv/bin/python")
    before, (module, *arguments) = all_words[:at], all_words[at + 2 :]
    if before:
        program, *parts, end = before
        assert (program, end) == ("laptop/prerequisites", "--")
        assert set(parts) <= set(re.findall(r"(?m)^#   (\w+) ", (ROOT / program).read_text(encoding="utf-8"))), parts
    return module, arguments


GATEWAY = {
    "stack": None,
    "devices": None,
    "network": None,
    "listen": None,
    "dicom_port": None,
    "direct_port": None,
    "status_port": None,
    "queue_mb": None,
    "alarm": None,
    "certificate": None,
    "out": None,
}
# Each target with as little as it takes, and with all its variables: paths and lists with what a shell would part.
CASES: Sequence[tuple[str, dict[str, str], str, dict[str, Any]]] = (
    ("demo", {}, "laptop", {"dicom_port": None, "web_port": None}),
    ("demo", {"DICOM_PORT": "21112", "WEB_PORT": "28443"}, "laptop", {"dicom_port": 21112, "web_port": 28443}),
    (
        "demo-enrol",
        {"AET": "CT1"},
        "laptop",
        {"command": "enrol", "aet": "CT1", "may": "store,find,move,get", "address": None, "port": None},
    ),
    (
        "demo-enrol",
        {"AET": "CT1", "MAY": "store,find", "ADDRESS": "10.0.0.5", "PORT": "104"},
        "laptop",
        {"command": "enrol", "aet": "CT1", "may": "store,find", "address": "10.0.0.5", "port": 104},
    ),
    ("demo-strike", {"AET": "CT1"}, "laptop", {"command": "strike", "aet": "CT1"}),
    ("demo-logs", {}, "laptop", {"command": "logs"}),
    ("demo-backup", {"FILE": "/my backups/it's.dump"}, "laptop", {"command": "backup", "file": Path("/my backups/it's.dump")}),
    ("demo-restore", {"FILE": "a.dump"}, "laptop", {"command": "restore", "file": Path("a.dump"), "dicom_port": None, "web_port": None}),
    (
        "demo-restore",
        {"FILE": "/my backups/it's.dump", "DICOM_PORT": "21112", "WEB_PORT": "28443"},
        "laptop",
        {"command": "restore", "file": Path("/my backups/it's.dump"), "dicom_port": 21112, "web_port": 28443},
    ),
    ("demo-down", {}, "laptop", {"command": "down"}),
    ("demo-clean", {}, "laptop", {"command": "clean"}),
    ("up", {"STACK": "dev"}, "operations", {"stack": "dev", "pulumi": []}),
    ("up", {"STACK": "dev", "YES": "1"}, "operations", {"stack": "dev", "pulumi": ["--yes"]}),
    ("modality", {"AET": "CT1", "STACK": "dev"}, "operations", {"aet": "CT1", "stack": "dev", "certificate": None, "out": None}),
    (
        "modality",
        {"AET": "CT1", "STACK": "dev", "CERTIFICATE": "2", "OUT": "/for the/vendor's"},
        "operations",
        {"aet": "CT1", "stack": "dev", "certificate": 2, "out": Path("/for the/vendor's")},
    ),
    ("gateway", {"AET": "CT1"}, "operations", {**GATEWAY, "aet": "CT1"}),
    (
        "gateway",
        {
            "AET": "GW1",
            "STACK": "dev",
            "FROM": "CT1, MR1",
            "NETWORK": "192.168.10.0/24, 10.0.0.0/8",
            "LISTEN": "192.168.10.2",
            "DICOM_PORT": "104",
            "DIRECT_PORT": "105",
            "STATUS_PORT": "8049",
            "QUEUE_MB": "50000",
            "ALARM": "https://hooks.example.org/a?b=1&c='2'",
            "CERTIFICATE": "2",
            "OUT": "/for the/site's",
        },
        "operations",
        {
            "aet": "GW1",
            "stack": "dev",
            "devices": "CT1, MR1",
            "network": "192.168.10.0/24, 10.0.0.0/8",
            "listen": "192.168.10.2",
            "dicom_port": 104,
            "direct_port": 105,
            "status_port": 8049,
            "queue_mb": 50000,
            "alarm": "https://hooks.example.org/a?b=1&c='2'",
            "certificate": 2,
            "out": Path("/for the/site's"),
        },
    ),
    ("verify", {}, "operations", {"stack": None, "aet": None}),
    ("verify", {"STACK": "dev", "AET": "CT1"}, "operations", {"stack": "dev", "aet": "CT1"}),
    ("verify", {"AET": "CT1"}, "operations", {"stack": None, "aet": "CT1"}),
    ("import", {"FROM": "/a"}, "operations", {"folder": Path("/a"), "stack": None, "aet": None, "parallel": 4, "out": None}),
    (
        "import",
        {"FROM": "/old images/it's 2019", "STACK": "dev", "AET": "CT1", "PARALLEL": "8", "OUT": "/my journals"},
        "operations",
        {"folder": Path("/old images/it's 2019"), "stack": "dev", "aet": "CT1", "parallel": 8, "out": Path("/my journals")},
    ),
    ("export", {"TO": "/a"}, "operations", {"folder": Path("/a"), "stack": None, "parallel": 4}),
    (
        "export",
        {"TO": "/all of/it's", "STACK": "dev", "PARALLEL": "8"},
        "operations",
        {"folder": Path("/all of/it's"), "stack": "dev", "parallel": 8},
    ),
    ("bench", {}, "laptop", {"quick": False}),
    ("bench", {"QUICK": "1"}, "laptop", {"quick": True}),
    ("mutants", {}, "tests.mutation", {"list": False, "only": [""], "quick": False}),
    ("mutants", {"ONLY": "nginx.conf: a b"}, "tests.mutation", {"list": False, "only": ["nginx.conf: a b"], "quick": False}),
)
# The targets that are tried here.
HANDED_ON = {target for target, _, _, _ in CASES} | {"rehearse", "docs"}


@pytest.mark.parametrize(
    ("target", "variables", "module", "arrives"), CASES, ids=[" ".join((target, *variables)) for target, variables, _, _ in CASES]
)
def test_what_is_said_to_make_arrives(target: str, variables: Mapping[str, str], module: str, arrives: Mapping[str, Any]) -> None:
    program, arguments = called(target, **variables)
    command = {} if module == "tests.mutation" else {"command": target}
    assert (program, vars(PARSERS[module]().parse_args(arguments))) == (module, {**command, **arrives})


def test_the_acts_are_those_of_the_rehearsal() -> None:
    assert called("rehearse") == ("rehearsal", [])
    for act in rehearsal.__main__.ACTS:
        assert called("rehearse", ACT=act) == ("rehearsal", [act])
    (acts,) = re.findall(r"(?m)^ACTS := (.*)$", MAKEFILE)
    assert set(acts.split()) == set(rehearsal.__main__.ACTS)


def test_what_takes_no_options_gets_none() -> None:
    assert called("docs") == ("operations.reference", [])
    assert called("test") == ("tests", [])


def test_no_target_and_no_variable_is_left_out() -> None:
    """A variable that a recipe gains has to be said here, too."""
    recipes = dict(re.findall(r"(?m)^\.PHONY: (.*)\n((?:.+\n)+)", MAKEFILE))
    tried = {name: {v for target, variables, _, _ in CASES if target == name for v in variables} for name in recipes}
    tried["rehearse"] = {"ACT"}
    used = {name: set(re.findall(r"\$\(([A-Z_]+)\)", recipe)) - {"VENV", "ACTS", "MAKEFILE_LIST"} for name, recipe in recipes.items()}
    assert used == tried
    assert set(recipes) - {target for target, _, _, _ in CASES} - {"rehearse"} == WITHOUT_VARIABLES
