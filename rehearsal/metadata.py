"""The instance metadata service of every host: version 2 only, a hop away at most, another answer for each who asks."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

ADDRESS: Final = "169.254.169.254"
ROLE: Final = "host"
_LIFETIME: Final = "X-aws-ec2-metadata-token-ttl-seconds"


@dataclass(kw_only=True)
class Instance:
    """What the service tells the instance about itself."""

    id: str
    address: str  # its private one
    image: str
    kind: str
    zone: str
    account: str
    user_data: bytes
    tags: Mapping[str, str]
    lifecycle: str = "InService"
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def region(self) -> str:
        return self.zone[:-1]

    @property
    def access_key(self) -> str:
        """Its own, so that its calls can be told from another's."""
        return f"ASIA{self.id.removeprefix('i-').upper()[:16]:0<16}"

    def tree(self) -> Mapping[str, Any]:
        """Everything below /latest: folders are mappings."""
        return {
            "user-data": self.user_data,
            "meta-data": {
                "ami-id": self.image,
                "autoscaling": {"target-lifecycle-state": self.lifecycle},
                "hostname": f"ip-{self.address.replace('.', '-')}.ec2.internal",
                "iam": {"security-credentials": {ROLE: json.dumps(self._credentials())}},
                "instance-id": self.id,
                "instance-type": self.kind,
                "local-hostname": f"ip-{self.address.replace('.', '-')}.ec2.internal",
                "local-ipv4": self.address,
                "placement": {"availability-zone": self.zone, "region": self.region},
                "tags": {"instance": self.tags},
            },
            "dynamic": {"instance-identity": {"document": json.dumps(self._document(), indent=2)}},
        }

    def _credentials(self) -> Mapping[str, str]:
        now = datetime.now(UTC)
        return {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": _second(now),
            "Expiration": _second(now + timedelta(hours=6)),
            "AccessKeyId": self.access_key,
            "SecretAccessKey": "emulated",
            "Token": "emulated",
        }

    def _document(self) -> Mapping[str, str]:
        return {
            "accountId": self.account,
            "availabilityZone": self.zone,
            "imageId": self.image,
            "instanceId": self.id,
            "instanceType": self.kind,
            "pendingTime": _second(self.began),
            "privateIp": self.address,
            "region": self.region,
            "version": "2017-09-30",
        }


def _second(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Metadata(ThreadingHTTPServer):
    """Listens on one bridge only, so that several rehearsals on one machine have one each."""

    daemon_threads = True

    def __init__(self, bridge: str, instances: Mapping[str, Instance]) -> None:
        """`instances` by their addresses, may change at any time."""
        self._bridge = bridge
        self.instances = instances
        self.tokens: set[str] = set()
        super().__init__((ADDRESS, 80), _Request)

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._bridge.encode())
        # The launch template's hop limit: what leaves here reaches the host, and no container on it.
        self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        super().server_bind()


class _Request(BaseHTTPRequestHandler):
    server: Metadata
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        if self.path != "/latest/api/token":
            self._say(404)
        elif (seconds := self.headers.get(_LIFETIME)) is None:
            self._say(400)
        else:
            token = secrets.token_urlsafe(32)
            self.server.tokens.add(token)
            self._say(200, token, seconds)

    def do_GET(self) -> None:
        instance = self.server.instances.get(self.client_address[0])
        if self.headers.get("X-aws-ec2-metadata-token") not in self.server.tokens:
            self._say(401)
        elif instance is None:
            self._say(404)
        else:
            # The first word is a version, 'latest' or a date; cloud-init asks for dates.
            self._tell(instance.tree(), [word for word in self.path.split("/") if word][1:])

    def _tell(self, found: Any, words: list[str]) -> None:
        for word in words:
            found = found.get(word) if isinstance(found, Mapping) else None
        if found is None:
            self._say(404)
        elif isinstance(found, Mapping):
            self._say(200, "\n".join(f"{name}/" if isinstance(below, Mapping) else name for name, below in found.items()))
        else:
            self._say(200, found)

    def _say(self, status: int, what: str | bytes = "", token_seconds: str = "") -> None:
        body = what.encode() if isinstance(what, str) else what
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        if token_seconds:
            self.send_header(_LIFETIME, token_seconds)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
