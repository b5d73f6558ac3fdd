"""What is not tried, and what is known to survive: each a pattern that is looked for in `file: change`, and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final


def _lines(file: str, *beginnings: str) -> str:
    """Every change of a line of the template `file` that begins so."""
    return rf"{file}: ['\"]({'|'.join(beginnings)})\b"


# Lines that keep nobody out and tell nothing.
NO_MATTER: Final[Sequence[tuple[str, str]]] = (
    (r"register_outputs", "what a component shows in the engine's tree; nothing is made of it"),
    (r"super\(\)\.__init__", "without it nothing of the component exists"),
    (r"without (opts=child|parent=self|opts=pulumi\.ResourceOptions\(parent=self\))$", "whose child a resource is: how the tree looks"),
    (r"/ (?!autoscaling)\w*Args: without \w+=", "a field without a default: Python refuses the call"),
    (r"without (description|examples)=|/ (description|examples)\b", "a text for people"),
    (r"without encoding=", "every file here is ASCII, and UTF-8 is the hosts' default"),
    (r"(trim_blocks|lstrip_blocks|keep_trailing_newline|sort_keys|indent)\b", "how a rendered text looks"),
    (r"infra/database\.py: max_connections\b", "a careful figure, for an alarm"),
    (r"places\.py: \w+_PORT: ", "both ends read the same constant; no port inside is safer than another"),
    (r"config_templates/__init__\.py: __all__", "names for those who import"),
    (r"infra/monitoring\.py: (alarms|dashboard|_GB|_PERIOD|_TRANSACTION_IDS|Alarm)\b", "when somebody is woken, and how a graph looks"),
    (r"infra/monitoring\.py: .*(MetricAlarm|Dashboard|TopicSubscription)\b", "likewise; guardrails.watched says what an alarm must have"),
    (r"infra/outputs\.py: of: (without|s\.web_port)|outputs\.py: of / (next|port)", "what a person is told after `pulumi up`"),
    (r"infra/settings\.py: (MACHINES|DATABASE_CLASSES|LOG_DAYS)\b", "what AWS offers"),
    (
        r"gateway/forwarder\.py: Queue / (_ask / default|\w+ / (self\._ask|connection).*)(: \d+ -> |without seconds=)",
        "how long the Orthanc beside it may take to answer",
    ),
    (r"gateway/forwarder\.py: .*log / seconds / round", "how exactly a log tells it"),
    (
        r"gateway/forwarder\.py: (Queue / waiting / default: |.*self\.queue\.waiting: without page=|.*/ page: )",
        "how many are asked for at once",
    ),
    (r"gateway/forwarder\.py: Forwarder / step / max: \d", "how often it looks"),
    (r"gateway/forwarder\.py: Watch / _post / .*timeout: \d", "how long whoever takes alarms may take"),
    (r"gateway/forwarder\.py: SEND_SECONDS: ", "a bound for what never ends by itself: far above what is bounded below it"),
    (
        _lines(
            "nginx.conf.j2", "proxy_http_version", "proxy_connect_timeout", "proxy_timeout", "proxy_socket_keepalive", "resolver_timeout"
        ),
        "how patient nginx is with our own containers, and with modalities that images are sent to",
    ),
    (
        _lines(
            "nginx.conf.j2",
            "proxy_buffer_size",
            "proxy_set_header Connection",
            "worker_processes",
            "worker_connections",
            "http2",
            "ssl_session_cache shared",
        ),
        "how fast nginx is",
    ),
    (_lines("nginx.conf.j2", "map_hash_bucket_size", "default_type", "server_name", "proxy_max_temp_file_size"), "likewise"),
    (r"nginx\.conf\.j2: .*-> .*(ipv6=on|backlog=\d+000|so_keepalive=off|valid=\d000s|worker_rlimit_nofile \d+000)", "likewise"),
    (r"nginx\.conf\.j2: .*-> .*preread_buffer_size \d+000k", "memory of nginx alone, which its container bounds"),
    (
        _lines("compose.yaml.j2", "mem_limit", "memswap_limit", "shm_size", "stop_signal", "stop_grace_period", "init", "restart"),
        "how a container lives and ends",
    ),
    (_lines("compose.yaml.j2", "interval", "timeout", "retries", "start_period", "hostname", "name"), "likewise"),
    (_lines("compose.yaml.j2", "TCP_NODELAY", "MALLOC_ARENA_MAX", "STONE_WEB_VIEWER", "GENERATE_HOST_ID"), "what Orthanc's image reads"),
    (
        _lines("postgresql.conf.j2", "shared_buffers", "max_wal_size", "wal_compression", "max_connections", "default_toast_compression"),
        "how fast the laptop's database is",
    ),
    (_lines(r"gateway/postgresql.conf", "shared_buffers", "max_wal_size", "max_connections"), "how fast a gateway's database is"),
    (r"gateway/gateway\.j2: (['\"]\./gateway \w+ |'echo' removed)", "a text for people"),
    (r"gateway/gateway\.j2: '(.*) # .*' -> '\1 # ", "a comment"),
)

# Tried, and noticed by no fast test.
EXPLAINED: Final[Sequence[tuple[str, str]]] = (
    (r"autoescape", "jinja2's own default; said so that a reader, and ruff, see that it is meant"),
    (r"ec2\.Eip: without domain=", "AWS has had no other kind of address since EC2-Classic ended"),
    (r"nginx\.conf\.j2: .*before_query>.* -> .*before_query", "'as much as there is without ?' begins at the beginning anyway"),
    (r"nginx\.conf\.j2: 'default (\"\"|0);' removed", "a map's own default is the empty text, which `if` takes for false too"),
    (r"nginx\.conf\.j2: '\"~\^(admin|0) .* -> '\"~(admin|0) ", "what is compared begins with one of three roles, or with 0 or 1"),
    (r"nginx\.conf\.j2: '(default|\"~\^0 .*|\"~\*\(_.*) 1;' -> .* 2000;'", "`if` takes whatever is neither nothing nor 0 for true"),
    (r"gateway/forwarder\.py: Status / disk(_free)?: ", "what stands there until the first look, of which nobody is told"),
    (r"gateway/forwarder\.py: Forwarder / \w+ / self\._cursor: 0 -> 1", "Orthanc's first change is a patient's, and no object's"),
    (r"gateway/forwarder\.py: Forwarder / (__init__|_reached) / .*without since=", "nobody is told since when a server answers"),
    (r"gateway/forwarder\.py: Queue / bound / .*get: 0 -> 1", "every Orthanc that a gateway runs tells its bound"),
    (r"gateway/forwarder\.py: run / _for_ever: 0 -> 1", "how soon the next batch goes"),
    (r"gateway/forwarder\.py: run: 0 -> 1", "it never ends"),
    (r"gateway/forwarder\.py: _asked / .*timeout: 8 -> ", "how long a forwarder may take to answer its own commands"),
    (r"gateway/forwarder\.py: _dead / .*without or what\.exc_type", "threading may leave the value out, and does so nowhere"),
    (r"gateway/forwarder\.py: _asked: without connection\.close", "the command ends, and its connections with it"),
    (r"gateway/forwarder\.py: save: without and failed\.status == 404", "one that is gone is gone, whatever the answer was"),
    (r"gateway/forwarder\.py: run / threading\.Thread.*daemon", "the main thread never ends, and _dead ends the process"),
    (r"Forwarder / _send_one: without and failed\.status == 404", "saves a question: what is gone is pruned later in any case"),
    (r"gateway/gateway\.j2: ';;' removed", "the last alternative of a case needs none; without any other the script does not parse"),
    (r"gateway/gateway\.j2: 'tries=0' removed", "a shell's arithmetic takes a name that nobody set for 0"),
    (r"probe\.py: call / connection / _Orthanc: without timeout", "_Orthanc.connect sets it; said for readers of the standard library"),
    (r"probe\.py: call / headers: without .Content-Type", "Orthanc reads what it is sent as JSON in any case"),
    (r"probe\.py: call: without connection\.close", "the program ends right after, and its connections with it"),
    (r"connection_uri / options / (connect_timeout|keepalives_\w+|tcp_user_timeout): ", "a dead database is noticed sooner still"),
    (r"orthanc/__init__\.py: _modality / Port: 1 -> 11", "a port of a host that does not exist"),
    (r"policy/__main__\.py: validate / broken / Resource: without protected", "no check of a single resource asks for it"),
    (r"_receivers: without and m\.(address|port) is not None", "Modality takes both or neither; mypy wants to be told"),
    (r"fingerprint / .*usedforsecurity", "changes nothing but on a Python that refuses SHA-1 otherwise"),
    (r"infra/settings\.py: _Model / .*hide_input_in_errors", "pydantic's own text is never shown: load() makes every message"),
    (r"infra/settings\.py: _Model / .*populate_by_name", "for whoever makes settings in Python, by field"),
    (r"infra/settings\.py: Settings / compose_sha256_x86_64 / Field: without alias", "what the generator makes of the name too; said"),
    (r"infra/settings\.py: FIELDS: without or", "every field has the alias that the generator makes"),
    (r"infra/settings\.py: .*/ silent_minutes / Field / ge: 5 -> 2", "the five before the first is none"),
    (r"infra/settings\.py: how_to_set / example / str: without (or \[|item)", "every field has an example"),
    (r"places\.py: LAPTOP_SECRETS / postgres: without item .superuser\.pgpass", "tests/service asks the laptop's database with it"),
    (r"association\.js: .return '';. removed", "a function without a word returns undefined, which is no reason either"),
    (r"SecretVersion / secret_string / .*: pulumi\.Output\.secret", "keys and passwords are secret where they are made; said once more"),
    (r"EncryptedRds / __init__ / self\.secret_arn / .*without or", "a type's missing value, which RDS always gives; mypy wants to be told"),
    (r"service / Service / database / Database: without (port|name|user)=", "the model's defaults, said because RDS is made with them"),
    (r"pack / gzip\.GzipFile: without filename", "a buffer has no name that could enter; said, because a file would have"),
    (r"s3\.BucketObjectv2: without content_type", "hosts take the object by its version and checksum, and no browser does"),
    (r"_decoded / .*(without validate|True -> False)", "what is decoded more leniently hides a key no better"),
    (r"host_is_replaced / int / hook\.get: 3600 -> 1800", "AWS takes either"),
    (r"infra/guardrails\.py: .*int.*: 0 -> 1$", "stands for nothing said: either is too little"),
    (r"infra/guardrails\.py: certificates_are_sound / int: 2048 -> 20481", "stands for nothing said, which is 2048: either is enough"),
    (r"infra/guardrails\.py: watched / len / str: without or", "'None' is as short as nothing"),
    (r"infra/host\.py: .*update_default_version", "the group names its template's version by number; for people in the console"),
    (r"_security_group / sorted: without and m\.(address|port) is not None", "Settings takes both or neither; mypy wants to be told"),
)
