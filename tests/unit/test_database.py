"""The laptop's database and RDS are told the same wherever both are told something."""

from __future__ import annotations

import re

from config_templates import render
from infra.database import PARAMETERS
from tests.rendering.scenarios import SCENARIOS


def test_what_both_databases_are_told_is_the_same() -> None:
    text = render(SCENARIOS["laptop"])["postgres/postgresql.conf"]
    laptop = {name: value.strip("'") for name, value in re.findall(r"(?m)^(\w+) = (.+)$", text)}
    both = laptop.keys() & PARAMETERS.keys()
    assert {name: laptop[name] for name in both} == {name: PARAMETERS[name] for name in both}
    assert both >= {"ssl_min_protocol_version", "log_statement", "log_min_error_statement", "default_toast_compression"}
