# ruff: noqa: ANN001, ANN002, ANN003, ANN201, ANN202, ARG001, INP001 - it runs inside the emulator, whose classes have no types
"""Loaded by the emulator's own Python (PYTHONPATH): what moto does not do, and this stack uses.

- a group's maximum instance lifetime is taken and forgotten, so that every refresh shows drift
- an instance refresh is unknown, and the AWS provider retries for minutes
- a launch template's own tags end up among those of its instances
- a group forgets why its instances were replaced
"""

import sys

if any("emulator.py" in word for word in sys.orig_argv):
    import uuid
    from datetime import UTC, datetime

    from moto.autoscaling.models import AutoScalingBackend
    from moto.autoscaling.responses import AutoScalingResponse
    from moto.core.responses import ActionResult
    from moto.ec2.models.launch_templates import LaunchTemplateVersion

    def remembering(method):
        def wrapped(self):
            answer = method(self)
            lifetime = self._get_param("MaxInstanceLifetime")
            if lifetime is not None:
                group = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
                group.max_instance_lifetime = int(lifetime)
            return answer

        return wrapped

    def start_instance_refresh(self):
        return ActionResult({"InstanceRefreshId": "emulated"})

    def describe_instance_refreshes(self):
        name = self._get_param("AutoScalingGroupName")
        done = {"InstanceRefreshId": "emulated", "AutoScalingGroupName": name, "Status": "Successful", "PercentageComplete": 100}
        return ActionResult({"InstanceRefreshes": [done]})

    def forgetting(method):
        def wrapped(self, *args, **kwargs):
            method(self, *args, **kwargs)
            specifications = self.data.get("TagSpecifications", [])
            self.data["TagSpecifications"] = [s for s in specifications if s["ResourceType"] != "launch-template"]

        return wrapped

    activities = {}  # of each group, the newest first

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

    def describe_scaling_activities(self):
        return ActionResult({"Activities": activities.get(self._get_param("AutoScalingGroupName"), [])})

    AutoScalingBackend.terminate_instance = remembering_why(AutoScalingBackend.terminate_instance)
    AutoScalingResponse.describe_scaling_activities = describe_scaling_activities
    AutoScalingResponse.create_auto_scaling_group = remembering(AutoScalingResponse.create_auto_scaling_group)
    AutoScalingResponse.update_auto_scaling_group = remembering(AutoScalingResponse.update_auto_scaling_group)
    AutoScalingResponse.start_instance_refresh = start_instance_refresh
    AutoScalingResponse.describe_instance_refreshes = describe_instance_refreshes
    LaunchTemplateVersion.__init__ = forgetting(LaunchTemplateVersion.__init__)
