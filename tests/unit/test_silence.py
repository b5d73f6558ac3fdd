"""A modality that always calls, like a site gateway, is missed when it does not any more."""

from __future__ import annotations

import re

import pytest

from infra.monitoring import heard, silence
from infra.stack import Stack
from tests.unit.recording import REGION
from tests.unit.test_stack import deployed, released


def test_only_a_modality_that_is_never_silent_is_missed() -> None:
    stack = deployed("gateway")
    alarms = stack.of("cloudwatch/metricAlarm")
    assert {name for name in alarms if "silent" in name} == {"monitoring-modality-silent-GW1"}
    (filtered,) = stack.of("cloudwatch/logMetricFilter").values()
    assert filtered["pattern"] == heard("GW1")
    assert not deployed("dev").of("cloudwatch/logMetricFilter")


def test_what_is_counted_in_the_containers_log_is_what_its_alarm_watches() -> None:
    stack = deployed("gateway")
    (filtered,) = stack.of("cloudwatch/logMetricFilter").values()
    alarm = stack.of("cloudwatch/metricAlarm")["monitoring-modality-silent-GW1"]
    assert (filtered["name"], filtered["logGroupName"]) == ("orthanc-test-heard-GW1", "/orthanc/test/containers")
    assert filtered["metricTransformation"] == {"namespace": "Orthanc/Associations", "name": "orthanc-test-GW1", "value": "1"}
    assert (alarm["namespace"], alarm["metricName"]) == ("Orthanc/Associations", "orthanc-test-GW1")
    assert alarm["dimensions"] == {}, "a metric that a filter makes has none"


@pytest.mark.parametrize(("minutes", "periods"), [(5, 1), (15, 3), (1440, 288)])
def test_it_is_missed_when_there_was_not_one_line_for_so_long(minutes: int, periods: int) -> None:
    alarm = silence(Stack(name="test", region=REGION, keep=False), "GW1", minutes)
    assert (alarm.name, alarm.section) == ("modality-silent-GW1", "modality-silent")
    assert (alarm.statistic, alarm.comparison, alarm.threshold, alarm.periods) == ("Sum", "LessThanThreshold", 1, periods)
    assert alarm.missing == "breaching", "no line, no value"
    assert f"GW1 for {minutes} minutes" in alarm.todo


def test_it_is_heard_by_the_lines_that_nginx_writes() -> None:
    """The filter's fields are those of the log, and mean an association that was let in."""
    conditions = dict(re.findall(r'\$\.(\w+) = ("[^"]*"|\d+)', heard("GW1")))
    assert conditions == {"what": '"dicom-in"', "calling": '"GW1"', "status": "200"}
    logged = released(deployed("gateway"))["nginx/nginx.conf"]
    assert all(f'"{field}":' in logged for field in conditions)
    assert "set $what dicom-in;" in logged
