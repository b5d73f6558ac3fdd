"""What is not tried, and what is known to survive: each a pattern that is looked for in `file: change`, and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# Lines that keep nobody out and tell nothing.
NO_MATTER: Final[Sequence[tuple[str, str]]] = (
    (r"register_outputs", "what a component shows in the engine's tree; nothing is made of it"),
    (r"super\(\)\.__init__", "without it nothing of the component exists"),
    (r"without (opts=child|parent=self|opts=pulumi\.ResourceOptions\(parent=self\))$", "whose child a resource is: how the tree looks"),
    (r"/ (?!autoscaling)\w*Args: without \w+=", "a field without a default: Python refuses the call"),
    (r"without (description|examples)=|/ (description|examples)\b|__doc__", "a text for people"),
    (r"monitoring\.py: (alarms|dashboard)\b", "when somebody is woken, and how a graph looks"),
    (r"monitoring\.py: .*(MetricAlarm|Dashboard|TopicSubscription|_PERIOD|_TRANSACTION_IDS|_GB|Alarm / missing)\b", "likewise"),
    (r"outputs\.py: of: without|outputs\.py: of / (next|port)", "what a person is told after `pulumi up`"),
    (r"settings\.py: (MACHINES|DATABASE_CLASSES|LOG_DAYS)\b", "what AWS offers"),
    (r"config_templates/__init__\.py: __all__", "names for those who import"),
)

# Tried, and noticed by no fast test.
EXPLAINED: Final[Sequence[tuple[str, str]]] = ()
