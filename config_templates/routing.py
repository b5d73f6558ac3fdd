"""Which inside port leads to which modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from zlib import crc32

FIRST_PORT = 20000
PORTS = 12768  # up to 32767: above, Linux takes the local ports of outgoing connections, and nginx makes many


def endpoint(host: str, port: int) -> str:
    """HOST:PORT, with the brackets that an IPv6 address needs there."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def outgoing_ports(aets: Iterable[str]) -> Mapping[str, int]:
    """One port for each AE title, that stays its own when others come and go.

    It follows from the title itself; only when two titles fall on one port does the alphabetically later one move on.
    nginx checks the called AE title on each port besides, so even then nothing can reach the wrong modality.
    """
    ports: dict[str, int] = {}
    for aet in sorted(aets):
        offset = crc32(aet.encode()) % PORTS
        while FIRST_PORT + offset in ports.values():
            offset = (offset + 1) % PORTS
        ports[aet] = FIRST_PORT + offset
    return ports
