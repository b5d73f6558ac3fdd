"""Alarms that count lines of the containers' log: a modality that is silent, an image whose storing was cancelled."""

from __future__ import annotations

import re

import pytest

from infra.monitoring import CANCELLED, cancelled, heard, silence
from infra.stack import Stack
from tests.unit.recording import REGION
from tests.unit.test_stack import deployed, released


def test_only_a_modality_that_is_never_silent_is_missed() -> None:
    stack = deployed("gateway")
    alarms = stack.of("cloudwatch/metricAlarm")
    assert {name for name in alarms if "silent" in name} == {"monitoring-modality-silent-GW1"}
    filters = stack.of("cloudwatch/logMetricFilter")
    assert {name for name in filters if "heard" in name} == {"monitoring-heard-GW1"}
    assert filters["monitoring-heard-GW1"]["pattern"] == heard("GW1")
    assert not [name for name in deployed("dev").of("cloudwatch/logMetricFilter") if "heard" in name]


@pytest.mark.parametrize(
    ("what", "alarm", "namespace", "metric"),
    [
        ("heard-GW1", "modality-silent-GW1", "Orthanc/Associations", "orthanc-test-GW1"),
        ("cancelled", "store-cancelled", "Orthanc/Images", "orthanc-test-cancelled"),
    ],
)
def test_what_is_counted_in_the_containers_log_is_what_its_alarm_watches(what: str, alarm: str, namespace: str, metric: str) -> None:
    stack = deployed("gateway")
    filtered = stack.of("cloudwatch/logMetricFilter")[f"monitoring-{what}"]
    watched = stack.of("cloudwatch/metricAlarm")[f"monitoring-{alarm}"]
    assert (filtered["name"], filtered["logGroupName"]) == (f"orthanc-test-{what}", "/orthanc/test/containers")
    assert filtered["metricTransformation"] == {"namespace": namespace, "name": metric, "value": "1"}
    assert (watched["namespace"], watched["metricName"]) == (namespace, metric)
    assert watched["dimensions"] == {}, "a metric that a filter makes has none"


def test_one_image_is_enough_and_none_is_well() -> None:
    """tests/service/test_database.py has Orthanc log the line."""
    alarm = cancelled(Stack(name="test", region=REGION, keep=False))
    assert (alarm.statistic, alarm.comparison, alarm.threshold, alarm.periods) == ("Sum", "GreaterThanOrEqualToThreshold", 1, 1)
    assert alarm.missing == "notBreaching", "no line, no value"
    for name in ("gateway", "dev"):
        assert deployed(name).of("cloudwatch/logMetricFilter")["monitoring-cancelled"]["pattern"] == CANCELLED


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
