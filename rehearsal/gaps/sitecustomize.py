# ruff: noqa: ANN001, ANN002, ANN003, ANN201, ANN202, ARG001, INP001 - it runs inside the emulator, whose classes have no types
"""Loaded by the emulator's own Python (PYTHONPATH): what moto does not do, and this stack uses.

- a group's maximum instance lifetime is taken and forgotten, so that every refresh shows drift
- an instance refresh is unknown, and the AWS provider retries for minutes
- a launch template's own tags end up among those of its instances
"""

import sys

if any("emulator.py" in word for word in sys.orig_argv):
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

    AutoScalingResponse.create_auto_scaling_group = remembering(AutoScalingResponse.create_auto_scaling_group)
    AutoScalingResponse.update_auto_scaling_group = remembering(AutoScalingResponse.update_auto_scaling_group)
    AutoScalingResponse.start_instance_refresh = start_instance_refresh
    AutoScalingResponse.describe_instance_refreshes = describe_instance_refreshes
    LaunchTemplateVersion.__init__ = forgetting(LaunchTemplateVersion.__init__)
