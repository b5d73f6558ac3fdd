"""Numbers that are given to `make`: what is wrong with one is said in one line, by the name under which it was typed."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from laptop.__main__ import main as laptop
from operations.__main__ import main as operations
from tests.unit.recording import ROOT

NUMBERS = {"DICOM_PORT", "WEB_PORT", "PORT", "CERTIFICATE", "DIRECT_PORT", "STATUS_PORT", "QUEUE_MB", "PARALLEL"}
# Module, command, option and variable, as the Makefile gives them: `python -m MODULE COMMAND ... --option $(VARIABLE)`.
GIVEN = [
    (module, command, option, variable)
    for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    for module, command in re.findall(r"-m (laptop|operations) (\w+)", line)
    for option, variable in re.findall(r'(--[a-z-]+) "?\$\(([A-Z_]+)\)', line)
    if variable in NUMBERS
]


def test_the_makefile_gives_all_of_these() -> None:
    assert {variable for *_, variable in GIVEN} == NUMBERS


@pytest.mark.parametrize("given", GIVEN, ids=" ".join)
@pytest.mark.parametrize("said", ["x", "4.5", ""])
def test_what_is_no_number_is_named_as_it_was_typed(
    given: tuple[str, str, str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module, command, option, variable = given
    main, code = (laptop, 1) if module == "laptop" else (operations, 2)
    wanted: Sequence[str] = {"modality": ["CT1", "dev"], "demo": []}.get(command, ["one"])
    assert main([command, *wanted, option, said]) == code
    told = capsys.readouterr()
    assert re.fullmatch(rf"error: {variable}={re.escape(said)} is no whole number\. Give one, like {variable}=\d+\.", told.err.strip())
    assert told.out == ""
