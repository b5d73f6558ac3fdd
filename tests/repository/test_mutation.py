"""The mutation tool itself: it covers every file, changes what it says, and tells a mutant that is noticed from one that is not."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from tests.mutation import lines, syntax
from tests.mutation.__main__ import fitting, tried
from tests.mutation.judging import judges
from tests.mutation.mutants import ROOT, Mutant, files, mutants
from tests.mutation.table import EXPLAINED, NO_MATTER

_NO_LINE_DECIDES = {"infra/__init__.py", "policy/__init__.py", "config_templates/__init__.py"}
_SUFFIXES = {".conf", ".j2", ".js", ".py", ".sed", ".sql"}


@pytest.fixture(scope="module")
def everything() -> dict[str, list[Mutant]]:
    return {path: list(mutants(path)) for path in files()}


def test_every_file_of_the_service_the_stack_and_the_policies_has_mutants_that_are_tried(everything: dict[str, list[Mutant]]) -> None:
    folders = [ROOT / "config_templates", ROOT / "infra", ROOT / "policy"]
    there = {path.relative_to(ROOT).as_posix() for folder in folders for path in folder.rglob("*") if path.suffix in _SUFFIXES}
    assert there | {"__main__.py"} == everything.keys()
    assert everything.keys() - {mutant.path for mutant in tried()} == _NO_LINE_DECIDES


def test_a_mutant_is_one_change_that_can_be_read_and_python_stays_python(everything: dict[str, list[Mutant]]) -> None:
    for path, found in everything.items():
        texts = [(ROOT / path).read_text(encoding="utf-8"), *(mutant.text for mutant in found)]
        assert len(set(texts)) == len(texts), path
        for text in texts[::40] if path.endswith(".py") else ():
            ast.parse(text)


def test_each_line_of_the_tables_fits_something(everything: dict[str, list[Mutant]]) -> None:
    names = [mutant.name for found in everything.values() for mutant in found]
    for pattern, reason in (*NO_MATTER, *EXPLAINED):
        assert reason
        assert any(re.search(pattern, name) for name in names), pattern
    for mutant in tried():
        assert len(fitting(mutant, EXPLAINED)) <= 1, f"explained twice: {mutant}"


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("    ssl_verify_client on;", {"", "    ssl_verify_client off;"}),
        ("    ssl_protocols TLSv1.2 TLSv1.3;", {"", "    ssl_protocols TLSv1 TLSv1.3;"}),
        ("  cap_drop: [ALL]", {"", "  cap_drop: []"}),
        ('  user: "{{ nginx.account.uid }}"', {"", '  user: "0"'}),
        ("ssl = on", {"", "ssl = off"}),
        ("# a remark, on;", set()),
        ("server {", set()),
    ],
)
def test_a_line_of_a_template_is_left_out_or_says_the_opposite(line: str, changed: set[str]) -> None:
    assert {text.rstrip("\n") for _, _, text in lines.changes(f"{line}\n", script=False)} == changed


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("f(safe=True)", {"f()", "f(safe=False)", "pass"}),
        ('x = {"http_tokens": "required"}', {"x = {}", "x = {\"http_tokens\": 'optional'}"}),
        ('x = ["kms:Decrypt"]', {"x = []", "x = ['kms:*']"}),
        ("x = 1", {"x = 11", "x = 0"}),
        ("x = a or not b", {"x = ((not b))", "x = ((a))"}),
        ("if a < b:\n    raise E(c)", {"if not (a < b):\n    raise E(c)", "if a < b:\n    pass"}),
        ('x = statement(a, "arn:x", Condition=c)', {'x = statement(a, "*", Condition=c)', 'x = statement(a, "arn:x")'}),
        ("x: Annotated[int, Field(ge=2), Even]", {
            "x: Annotated[int, Even]",
            "x: Annotated[int, Field(ge=2)]",
            "x: Annotated[int, Field(), Even]",
            "x: Annotated[int, Field(ge=21), Even]",
            "x: Annotated[int, Field(ge=1), Even]",
        }),
        ("x = pulumi.Output.secret(y)", {"x = pulumi.Output.from_input(y)"}),
        ('"""A text."""', set()),
    ],
)  # fmt: skip
def test_python_loses_an_argument_an_item_a_rule_or_a_statement_or_a_value_gets_worse(line: str, changed: set[str]) -> None:
    assert {text for _, _, text in syntax.changes(line)} == changed


def test_everybody_who_could_know_is_asked_once_and_no_golden_is() -> None:
    for path in files():
        closest, others = judges(path)
        assert closest
        assert others
        asked = [*closest, *others]
        assert len(set(asked)) == len(asked), path
        assert all((ROOT / test).is_file() for test in asked), path
        assert "tests/rendering/test_goldens.py" not in asked


_TRIAL = """
from tests.mutation.judging import court
from tests.mutation.mutants import ROOT, Mutant, mutants

path = "config_templates/postgres/postgresql.conf.j2"
off = next(mutant for mutant in mutants(path) if mutant.what == "'ssl = on' -> 'ssl = off'")
same = Mutant(path, 1, "a remark", (ROOT / path).read_text() + "# a remark\\n")
with court() as room:
    for mutant in (off, same, off):
        print(room.noticed(mutant, quickly=True), *room.noticers, "passed" in room.last_words())
    assert (room.folder / path).read_bytes() == (ROOT / path).read_bytes()
"""


def test_a_mutant_is_noticed_by_the_tests_and_one_that_changes_nothing_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", _TRIAL], cwd=ROOT, capture_output=True, text=True, check=True)
    who = "tests/rendering/test_postgres.py::test_the_database_speaks_tls_only_and_keeps_what_it_has_acknowledged[laptop]"
    # At the second time it is asked before all others, of whom some pass.
    assert done.stdout.splitlines() == [f"True {who} True", f"False {who} True", f"True {who} False"]
