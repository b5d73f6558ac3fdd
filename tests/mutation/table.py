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
    (r"without encoding=", "every file here is ASCII, and UTF-8 is the hosts' default"),
    (
        r"nginx\.conf\.j2: .(proxy_(http_version|connect_timeout|timeout|socket_keepalive|buffer_size|max_temp_file_size)|resolver_timeout"
        r"|worker_processes|worker_connections|map_hash_bucket_size|default_type|server_name|http2|proxy_set_header Connection) ",
        "how fast nginx is, and how patient with our own containers",
    ),
    (r"nginx\.conf\.j2: .*-> .*(ipv6=on|so_keepalive=off|valid=\d000s|worker_rlimit_nofile \d+000)", "likewise"),
    (
        r"nginx\.conf\.j2: .*-> .*(preread_buffer_size|large_client_header_buffers) \d+000k",
        "memory of nginx alone, which its container bounds",
    ),
    (
        r"compose\.yaml\.j2: .(mem_limit|memswap_limit|shm_size|stop_signal|stop_grace_period|interval|timeout|retries|start_period|init|restart"
        r"|TCP_NODELAY|MALLOC_ARENA_MAX|STONE_WEB_VIEWER_PLUGIN_ENABLED|GENERATE_HOST_ID_IF_MISSING|hostname|name)\b",
        "how a container lives and ends",
    ),
    (r"postgresql\.conf\.j2: .(shared_buffers|max_wal_size|wal_compression|max_connections)\b", "how fast the laptop's database is"),
)

# Tried, and noticed by no fast test.
EXPLAINED: Final[Sequence[tuple[str, str]]] = ()
