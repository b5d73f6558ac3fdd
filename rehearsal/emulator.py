# ruff: noqa: ANN001, ANN002, ANN003, ANN201, ANN202 - moto's classes have no types to hold these to
"""AWS on this machine: moto's server, with what it does not do and this stack uses.

Usage: python -m rehearsal.emulator -p PORT. It is a process of its own, which boto3's users here never share with it.
"""

from __future__ import annotations

import secrets
import string
import sys
import uuid
from datetime import UTC, datetime

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import AutoScalingBackend
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models.launch_templates import LaunchTemplateVersion
from moto.rds.models import DBInstance, DBParameterGroup
from moto.server import main


def after(method, more):
    """`method`, and then `more` with the same object."""

    def wrapped(self, *args, **kwargs):
        answer = method(self, *args, **kwargs)
        more(self)
        return answer

    return wrapped


# -- RDS -------------------------------------------------------------------------------------------------------------------


def own_resource_id(instance):
    """Each database has one; moto's are all the same, and the provider takes the first."""
    instance.dbi_resource_id = "db-" + "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(26))


def somebody_set_them(group):
    """A parameter that was set says so; otherwise it shows as a difference for ever."""
    for parameter in group.parameters.values():
        parameter.setdefault("Source", "user")


# -- launch templates ------------------------------------------------------------------------------------------------------


def without_its_own_tags(version):
    """A template's tags are its own; moto also gives them to its instances."""
    version.data["TagSpecifications"] = [s for s in version.data.get("TagSpecifications", []) if s["ResourceType"] != "launch-template"]


# -- Auto Scaling ----------------------------------------------------------------------------------------------------------


def remembering_lifetime(method):
    """A group's maximum instance lifetime; moto forgets it, so that every refresh shows drift."""

    def wrapped(self):
        answer = method(self)
        lifetime = self._get_param("MaxInstanceLifetime")
        if lifetime is not None:
            group = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
            group.max_instance_lifetime = int(lifetime)
        return answer

    return wrapped


def complete_lifecycle_action(self):
    """moto's instances are InService at once: what became of a hook stands in the instance's tag lifecycle:HOOK."""
    name, instance = self._get_param("AutoScalingGroupName"), self._get_param("InstanceId")
    group = self.autoscaling_backend.autoscaling_groups.get(name)
    if instance not in [member.instance.id for member in getattr(group, "instance_states", [])]:
        raise ValidationError(f"No active Lifecycle Action found with instance ID {instance}")
    outcome = {f"lifecycle:{self._get_param('LifecycleHookName')}": self._get_param("LifecycleActionResult")}
    self.autoscaling_backend.ec2_backend.create_tags([instance], outcome)
    return EmptyResult()


refreshes: dict[str, list[str]] = {}  # of each group: the template versions that were rolled out, the newest first


def start_instance_refresh(self):
    name = self._get_param("AutoScalingGroupName")
    group = self.autoscaling_backend.autoscaling_groups[name]
    refreshes.setdefault(name, []).insert(0, str(group.provided_launch_template_version))
    return ActionResult({"InstanceRefreshId": f"refresh-{len(refreshes[name])}"})


def describe_instance_refreshes(self):
    name = self._get_param("AutoScalingGroupName")
    done = [
        {
            "InstanceRefreshId": f"refresh-{number}",
            "AutoScalingGroupName": name,
            "Status": "Successful",
            "StatusReason": f"launch template version {version}",
            "PercentageComplete": 100,
        }
        for number, version in zip(range(len(refreshes.get(name, ())), 0, -1), refreshes.get(name, ()), strict=True)
    ]
    return ActionResult({"InstanceRefreshes": done})


activities: dict[str, list[dict[str, object]]] = {}  # of each group, the newest first


def note(group, what, why):
    now = datetime.now(UTC)
    activity = {
        "ActivityId": str(uuid.uuid4()),
        "AutoScalingGroupName": group,
        "Description": what,
        "Cause": f"At {now:%Y-%m-%dT%H:%M:%SZ} an instance was {why}",
        "StartTime": now,
        "EndTime": now,
        "StatusCode": "Successful",
        "Progress": 100,
    }
    activities.setdefault(group, []).insert(0, activity)


def remembering_why(method):
    """As AWS words it: docs.aws.amazon.com/autoscaling/ec2/userguide, View the reason for health check failures."""

    def wrapped(self, instance_id, should_decrement):
        groups = self.autoscaling_groups.values()
        group, member = next((g, m) for g in groups for m in g.instance_states if m.instance.id == instance_id)
        unhealthy, before = member.health_status == "Unhealthy", {m.instance.id for m in group.instance_states}
        answer = method(self, instance_id, should_decrement)
        asked = "a user health-check" if unhealthy else "a user request"
        note(group.name, f"Terminating EC2 instance: {instance_id}", f"taken out of service in response to {asked}.")
        for new in {m.instance.id for m in group.instance_states} - before:
            why = "an unhealthy instance needing to be replaced" if unhealthy else "a difference between desired and actual capacity"
            note(group.name, f"Launching a new EC2 instance: {new}", f"started in response to {why}.")
        return answer

    return wrapped


def describe_scaling_activities(self):
    return ActionResult({"Activities": activities.get(self._get_param("AutoScalingGroupName"), [])})


DBInstance.__init__ = after(DBInstance.__init__, own_resource_id)
DBParameterGroup.update_parameters = after(DBParameterGroup.update_parameters, somebody_set_them)
LaunchTemplateVersion.__init__ = after(LaunchTemplateVersion.__init__, without_its_own_tags)
AutoScalingBackend.terminate_instance = remembering_why(AutoScalingBackend.terminate_instance)
AutoScalingResponse.create_auto_scaling_group = remembering_lifetime(AutoScalingResponse.create_auto_scaling_group)
AutoScalingResponse.update_auto_scaling_group = remembering_lifetime(AutoScalingResponse.update_auto_scaling_group)
AutoScalingResponse.complete_lifecycle_action = complete_lifecycle_action
AutoScalingResponse.start_instance_refresh = start_instance_refresh
AutoScalingResponse.describe_instance_refreshes = describe_instance_refreshes
AutoScalingResponse.describe_scaling_activities = describe_scaling_activities

if __name__ == "__main__":
    main(["-H", "127.0.0.1", *sys.argv[1:]])
