"""docs/aws-costs.md: its sums are right, and its table is about the stack that Pulumi.dev.yaml makes."""

from __future__ import annotations

import re

from tests.unit.recording import ROOT
from tests.unit.test_stack import deployed, emitted

TEXT = (ROOT / "docs/aws-costs.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|") and "---" not in line]
DEV = {row[0]: row for row in ROWS[1:] if len(row) == 4 and "sum" not in row[0]}


def test_the_sum_is_the_sum_and_at_most_40() -> None:
    total = round(sum(float(row[3]) for row in DEV.values()), 2)
    (said,) = re.findall(r"\*\*sum\*\* .*\*\*([0-9.]+)\*\*", TEXT)
    assert total == float(said)
    assert total <= 40


def test_each_row_is_amount_times_price() -> None:
    for name, amount, price, cost in (row for row in DEV.values() if re.match(r"\d", row[1])):
        numbers = float(amount.split()[0]) * float(price.split()[0])
        assert round(numbers, 2) == float(cost), name


def test_the_table_is_about_what_dev_makes() -> None:
    stack = deployed("dev")
    assert stack.one("ec2/launchTemplate")["instanceType"] in next(n for n in DEV if n.startswith("host"))
    assert stack.one("rds/instance")["instanceClass"] in next(n for n in DEV if n.startswith("database"))
    assert int(DEV["alarms"][1]) == len(stack.of("cloudwatch/metricAlarm"))
    assert int(DEV["secrets: keys, users, database"][1]) == len(stack.of("secretsmanager/secret")) + 1
    assert int(DEV["its volume, gp3"][1].split()[0]) == stack.one("ec2/launchTemplate")["blockDeviceMappings"][0]["ebs"]["volumeSize"]
    assert int(DEV["its storage, gp3"][1].split()[0]) == stack.one("rds/instance")["allocatedStorage"]
    assert int(DEV["metrics of the host"][1]) == len(emitted())


def test_a_stored_tb_is_1024_gb() -> None:
    row = next(r for r in ROWS if r[0].startswith("storage, gp3"))
    assert [float(cell) for cell in row[1:]] == [round(1024 * 0.115, 2), round(1024 * 0.23, 2)]
