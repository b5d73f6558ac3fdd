"""Monitoring: log groups, alarms that say what to do, and a dashboard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pulumi
from pulumi_aws import cloudwatch, sns

from infra.access import METRICS
from infra.database import max_connections
from infra.settings import Settings
from infra.stack import Stack, document

_GB = 1024**3
_PERIOD = 300
# What RDS emits about a PostgreSQL that runs towards transaction id wraparound, which stops it at 2^31 (about 2.1e9).
_TRANSACTION_IDS = 1_000_000_000
# What Orthanc logs when the index did not take an image whose pixels it has stored, and now removes (ServerContext.cpp).
CANCELLED = '"cancelling and deleting the attachments"'


@dataclass(frozen=True)
class Lines:
    """Lines of the containers' log that CloudWatch counts: the filter's name in the stack, and what fits."""

    name: str
    pattern: str


@dataclass(frozen=True)
class Alarm:
    """One thing that must not stay unnoticed. `todo` is what the person who is woken reads."""

    name: str
    metric: str
    todo: str
    namespace: str
    dimensions: Mapping[str, str]
    statistic: str
    comparison: str
    threshold: int  # CloudWatch gives fractions back rounded, which would show as drift
    periods: int
    missing: str = "missing"
    section: str = ""  # of docs/alarms.md, when it is not the alarm's own name
    lines: Lines | None = None  # that the metric counts


# A metric that a filter makes has no dimensions: the stack stands in its name.
_of_lines = partial(Alarm, dimensions={}, statistic="Sum", threshold=1)


def alarms(settings: Settings, stack: Stack) -> Sequence[Alarm]:
    """Every alarm of a stack. The metrics in the namespace Orthanc come from the host (docs/aws.md lists them)."""
    host = partial(Alarm, namespace=METRICS, dimensions={"Stack": stack.name})
    rds = partial(Alarm, namespace="AWS/RDS", dimensions={"DBInstanceIdentifier": stack.label})
    renew = "Raise the number of the certificate that is due (docs/aws.md, Certificates), run pulumi up"
    return [
        host(
            "proof",
            "Proof",
            f"The service is not proven: no host says so, or its proof fails. Read {stack.path('proven')} in Parameter Store: it says why.",
            statistic="Minimum",
            comparison="LessThanThreshold",
            threshold=1,
            periods=3,
            missing="breaching",  # a host that is silent is no better than one that fails
        ),
        host(
            "release-failed",
            "ReleaseFailed",
            "A host refused the newest release and went back to the one before. "
            f"Read {stack.path('proven')} in Parameter Store, mend the settings, run pulumi up.",
            statistic="Maximum",
            comparison="GreaterThanOrEqualToThreshold",
            threshold=1,
            periods=1,
        ),
        *(
            host(
                f"certificate-{days}-days",
                "CertificateDaysLeft",
                f"A certificate ends in less than {days} days. {renew}; for a modality the vendor needs a date.",
                statistic="Minimum",
                comparison="LessThanThreshold",
                threshold=days,
                periods=1,
            )
            for days in (45, 14)
        ),
        host(
            "storage-limit",
            "StoredBytes",
            f"The archive has reached 80 % of what the database may grow to ({settings.database_limit_gb} GB). "
            "Raise databaseLimitGb, run pulumi up; at the limit every C-STORE fails.",
            statistic="Maximum",
            comparison="GreaterThanThreshold",
            threshold=settings.database_limit_gb * _GB * 80 // 100,
            periods=1,
        ),
        rds(
            "storage-free",
            "FreeStorageSpace",
            "The database has less free space than RDS usually leaves, so it no longer grows by itself. "
            "Look at its events; if it is at its limit, raise databaseLimitGb and run pulumi up.",
            statistic="Minimum",
            comparison="LessThanThreshold",
            # RDS grows the storage when less than a tenth is free (and not again within six hours).
            threshold=settings.database_storage_gb * _GB * 8 // 100,
            periods=3,
        ),
        rds(
            "connections",
            "DatabaseConnections",
            "Nearly every connection of the database is taken. Look who holds them (pg_stat_activity); take a bigger databaseClass.",
            statistic="Maximum",
            comparison="GreaterThanThreshold",
            threshold=max_connections(settings.database_class) * 80 // 100,
            periods=3,
        ),
        rds(
            "cpu",
            "CPUUtilization",
            "The database has been busy for half an hour. If studies are imported, wait; otherwise take a bigger databaseClass.",
            statistic="Average",
            comparison="GreaterThanThreshold",
            threshold=90,
            periods=6,
        ),
        rds(
            "transaction-ids",
            "MaximumUsedTransactionIDs",
            "Vacuum does not keep up: at 2.1e9 transaction ids PostgreSQL stops taking writes. Look for old transactions; vacuum.",
            statistic="Maximum",
            comparison="GreaterThanThreshold",
            threshold=_TRANSACTION_IDS,
            periods=1,
        ),
        cancelled(stack),
        Alarm(
            name="host-replaced",
            metric="GroupPendingInstances",
            namespace="AWS/AutoScaling",
            dimensions={"AutoScalingGroupName": stack.label},
            statistic="Maximum",
            comparison="GreaterThanOrEqualToThreshold",
            threshold=1,
            periods=1,
            todo="A new host is being started. After a change, or on its last day, that is as it should be; "
            "otherwise the group's activity history says why.",
        ),
        *(silence(stack, modality.aet, modality.silent_minutes) for modality in settings.modalities if modality.silent_minutes),
    ]


def silence(stack: Stack, aet: str, minutes: int) -> Alarm:
    """A modality that always calls, like a site gateway, and does not any more: it can't say so itself."""
    return _of_lines(
        name=f"modality-silent-{aet}",
        section="modality-silent",
        lines=Lines(f"heard-{aet}", heard(aet)),
        metric=f"{stack.label}-{aet}",
        namespace=f"{METRICS}/Associations",
        comparison="LessThanThreshold",
        periods=minutes * 60 // _PERIOD,
        missing="breaching",
        todo=f"Nothing was heard of {aet} for {minutes} minutes. If it is a site gateway: is its computer on, and the line up?",
    )


def cancelled(stack: Stack) -> Alarm:
    """A database that fails amid a commit may keep an image's index, though Orthanc, not told so, removes the pixels (docs/trust.md)."""
    return _of_lines(
        name="store-cancelled",
        lines=Lines("cancelled", CANCELLED),
        metric=f"{stack.label}-cancelled",
        namespace=f"{METRICS}/Images",
        comparison="GreaterThanOrEqualToThreshold",
        periods=1,
        missing="notBreaching",
        todo="The database failed while an image was stored, and may have kept it without its pixels: sent again, it would be acknowledged "
        "and lost. Look for such images today, while the modality still has them, and delete them here.",
    )


def heard(aet: str) -> str:
    """The lines of nginx's log that tell of an association of `aet` that was let in, as CloudWatch filters them."""
    return f'{{ $.what = "dicom-in" && $.calling = "{aet}" && $.status = 200 }}'


def dashboard(settings: Settings, stack: Stack) -> dict[str, object]:
    """Body of the CloudWatch dashboard: one graph for each metric that an alarm watches, with the alarm's line."""
    shown = {(a.namespace, a.metric): a for a in alarms(settings, stack)}.values()
    return {
        "widgets": [
            {
                "type": "metric",
                "x": 8 * (n % 3),
                "y": 6 * (n // 3),
                "width": 8,
                "height": 6,
                "properties": {
                    "title": a.metric,
                    "region": stack.region,
                    "stat": a.statistic,
                    "period": _PERIOD,
                    "metrics": [[a.namespace, a.metric, *(part for pair in sorted(a.dimensions.items()) for part in pair)]],
                    "annotations": {"horizontal": [{"label": a.name, "value": a.threshold}]},
                },
            }
            for n, a in enumerate(shown)
        ]
    }


@dataclass(frozen=True, kw_only=True)
class MonitoringArgs:
    settings: Settings
    stack: Stack
    account: pulumi.Input[str]
    kms_key_arn: pulumi.Input[str]


class Monitoring(pulumi.ComponentResource):
    """Nothing here depends on database or host: they are watched by name, from their first minute."""

    topic_arn: pulumi.Output[str]

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("orthanc:infra:Monitoring", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings, stack = args.settings, args.stack
        groups = {
            what: cloudwatch.LogGroup(
                f"{name}-{what}",
                name=stack.path(what),
                retention_in_days=settings.log_days,
                kms_key_id=args.kms_key_arn,
                tags=stack.tags(what),
                opts=child,
            )
            for what in ("containers", "host")
        }
        topic = sns.Topic(f"{name}-topic", kms_master_key_id=args.kms_key_arn, tags=stack.tags("alarms"), opts=child)
        sns.TopicPolicy(
            f"{name}-topic",
            arn=topic.arn,
            policy=pulumi.Output.all(topic.arn, args.account).apply(lambda a: json.dumps(topic_policy(*a))),
            opts=child,
        )
        if settings.alarm_email:
            sns.TopicSubscription(f"{name}-email", topic=topic.arn, protocol="email", endpoint=settings.alarm_email, opts=child)
        for alarm in alarms(settings, stack):
            if alarm.lines is not None:
                cloudwatch.LogMetricFilter(
                    f"{name}-{alarm.lines.name}",
                    name=f"{stack.label}-{alarm.lines.name}",
                    log_group_name=groups["containers"].name,
                    pattern=alarm.lines.pattern,
                    metric_transformation={"namespace": alarm.namespace, "name": alarm.metric, "value": "1"},
                    opts=child,
                )
            cloudwatch.MetricAlarm(
                f"{name}-{alarm.name}",
                name=f"{stack.label}-{alarm.name}",
                alarm_description=f"{alarm.todo} (docs/alarms.md, {alarm.section or alarm.name})",
                namespace=alarm.namespace,
                metric_name=alarm.metric,
                dimensions=dict(alarm.dimensions),
                statistic=alarm.statistic,
                period=_PERIOD,
                evaluation_periods=alarm.periods,
                comparison_operator=alarm.comparison,
                threshold=alarm.threshold,
                treat_missing_data=alarm.missing,
                alarm_actions=[topic.arn],
                ok_actions=[topic.arn],
                tags=stack.tags(alarm.name),
                opts=child,
            )
        if settings.dashboard:
            cloudwatch.Dashboard(
                f"{name}-dashboard", dashboard_name=stack.label, dashboard_body=json.dumps(dashboard(settings, stack)), opts=child
            )
        self.topic_arn = topic.arn
        self.register_outputs({"topic_arn": self.topic_arn})


def topic_policy(topic: str, account: str) -> dict[str, object]:
    """Only this account's alarms publish."""
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Service": "cloudwatch.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": topic,
            "Condition": {"StringEquals": {"aws:SourceAccount": account}},
        }
    )
