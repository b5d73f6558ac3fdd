"""The files that a host gets, and the pure functions that render them: a `Service` in, `{file name: text}` out."""

from config_templates.model import (
    Account,
    CloudWatchLogs,
    Container,
    Database,
    Limits,
    Modality,
    RotatedFiles,
    Service,
    User,
)
from config_templates.rendering import render

__all__ = [
    "Account",
    "CloudWatchLogs",
    "Container",
    "Database",
    "Limits",
    "Modality",
    "RotatedFiles",
    "Service",
    "User",
    "render",
]
