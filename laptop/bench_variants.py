"""What `make bench` compares: the rendered files of the real templates, and the same files changed in a few places.

Pure functions, {file name: text} in and out. Each change must find what it changes: a template that moves on breaks the bench
rather than let it compare the service with itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, urlencode

from laptop.tell import Trouble

Files: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to run the service. `encrypted`: whether its peers speak TLS."""

    name: str
    title: str
    change: Callable[[Files], Files]
    encrypted: bool


def on_the_bench(files: Files) -> Files:
    """The service without what would be measured by mistake, in every variant alike:

    - the link that keeps containers away from the metadata address: one machine has room for one, and no byte of a transfer goes over it;
    - the viewer: Debian's, which stands in for Stone, reads every stored image's record back; Stone does nothing when an image is stored;
    - autovacuum and timed checkpoints: their minutes go on in a pause, so that all of that work falls on the seconds between pauses.
      The bench does it between its rounds.
    """
    compose = _changed(files["compose.yaml"], r" {6}no-metadata: \{\}\n", "")
    compose = _changed(compose, r"(?m)(^  #.*\n)*^  no-metadata:\n(^ {4,}.*\n)+", "")
    return {
        **files,
        "compose.yaml": _changed(compose, r'STONE_WEB_VIEWER_PLUGIN_ENABLED: "true"', 'STONE_WEB_VIEWER_PLUGIN_ENABLED: "false"'),
        "postgres/postgresql.conf": files["postgres/postgresql.conf"] + "\nautovacuum = off\ncheckpoint_timeout = 1d\n",
    }


def without_tls(files: Files) -> Files:
    """No TLS from modality or browser to nginx, from nginx to Orthanc, nor from Orthanc to PostgreSQL."""
    nginx = _changed(files["nginx/nginx.conf"], r"(?m)^ *(proxy_)?ssl(_\w+)? [^;]*;\n", "")
    nginx = _changed(nginx, r"(?m)^( *listen \S+) ssl\b", r"\1")
    # Without a certificate there is no identity that an association could be held against.
    nginx = _changed(nginx, r"(?m)^ *js_preread association\.admit;\n", "")
    return {
        **_orthanc_in_clear(files, sslmode="disable"),
        "nginx/nginx.conf": _changed(nginx, "proxy_pass https://", "proxy_pass http://"),
        "postgres/pg_hba.conf": _changed(files["postgres/pg_hba.conf"], r"(?m)^hostssl ", "host "),
    }


def as_the_original(files: Files) -> Files:
    """TLS ends at nginx, Orthanc has no TCP_NODELAY, PostgreSQL compresses as by default, and nobody looks at its certificate."""
    nginx = _changed(files["nginx/nginx.conf"], r"(?m)^ *proxy_ssl(_\w+)? [^;]*;\n", "")
    return {
        **_orthanc_in_clear(files, sslmode="require"),
        "nginx/nginx.conf": _changed(nginx, "proxy_pass https://", "proxy_pass http://"),
        "compose.yaml": _changed(files["compose.yaml"], r"(?m)^ *TCP_NODELAY: .*\n", ""),
        "postgres/postgresql.conf": _changed(files["postgres/postgresql.conf"], r"(?m)^default_toast_compression = .*\n", ""),
    }


def _orthanc_in_clear(files: Files, *, sslmode: str) -> Files:
    """Orthanc's two ports without TLS, its health check too, and its database by `sslmode`."""
    configuration = json.loads(files["orthanc/orthanc.json"])
    configuration |= {"SslEnabled": False, "DicomTlsEnabled": False}
    database = configuration["PostgreSQL"]
    address, _, query = database["ConnectionUri"].partition("?")
    options = dict(parse_qsl(query))
    # libpq verifies even under sslmode=require when it is given an authority.
    del options["sslrootcert"]
    database["ConnectionUri"] = f"{address}?{urlencode({**options, 'sslmode': sslmode}, safe='/')}"
    wrapped = r"self\._context\.wrap_socket\(plain, server_hostname=NAME\)"
    return {
        **files,
        "orthanc/orthanc.json": json.dumps(configuration, indent=2, sort_keys=True) + "\n",
        "probe/probe.py": _changed(files["probe/probe.py"], wrapped, "plain"),
    }


def _changed(text: str, pattern: str, replacement: str) -> str:
    changed, count = re.subn(pattern, replacement, text)
    if count == 0:
        raise Trouble(f"the bench finds no {pattern!r} in the rendered files any more: mend laptop/bench_variants.py")
    return changed


THIS: Final = Variant(name="this", title="this service", change=on_the_bench, encrypted=True)
NO_TLS: Final = Variant(name="no-tls", title="no TLS", change=lambda files: without_tls(on_the_bench(files)), encrypted=False)
ORIGINAL: Final = Variant(
    name="original", title="the original's configuration", change=lambda files: as_the_original(on_the_bench(files)), encrypted=True
)
VARIANTS: Final = (THIS, NO_TLS, ORIGINAL)
