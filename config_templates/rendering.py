"""render: a Service in, the text of every file out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from config_templates import orthanc, places
from config_templates.model import CloudWatchLogs, RotatedFiles, Service
from config_templates.routing import endpoint, outgoing_ports

_HERE = Path(__file__).parent


def _plain(value: object) -> object:
    """Refuse what would print as a word of Python (None, True, an unresolved Output) instead of a value."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    raise TypeError(f"a template prints a value of type {type(value).__name__}")


TEMPLATES = Environment(
    loader=FileSystemLoader(_HERE),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701 - these are no web pages, and every value is validated by its type
    finalize=_plain,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters["tojson"] = lambda value: json.dumps(value, sort_keys=True)


def render(service: Service) -> Mapping[str, str]:
    """The files of `service`, by their path below its run_dir. compose.yaml is for Docker alone: where it lies is the host's business.

    Pure: the same service gives the same bytes. Secrets are no part of it (places.SECRETS lists what the host adds).
    """
    # A value that was never validated (model_copy, an unresolved Output) would be printed as a word.
    service = Service.model_validate(service)
    configuration = _json(orthanc.configuration(service))
    values = {
        **{name: getattr(service, name) for name in type(service).model_fields},
        "places": places,
        "mounts": {directory: seen for directory, (_, seen) in places.MOUNTS.items()},
        "ciphers": ":".join(orthanc.TLS12_CIPHERS),
        "orthanc_configuration": sha256(configuration.encode()).hexdigest(),
        "receivers": _receivers(service),
        "logging": _logging(service.logs),
    }

    def template(name: str) -> str:
        return TEMPLATES.get_template(name).render(values)

    files = {
        "compose.yaml": template("compose.yaml.j2"),
        "orthanc/orthanc.json": configuration,
        "probe/log.sed": (_HERE / "probe/log.sed").read_text(encoding="utf-8"),
        "probe/probe.py": (_HERE / "probe/probe.py").read_text(encoding="utf-8"),
        "probe/modalities.json": _json(orthanc.modalities(service)),
        "nginx/nginx.conf": template("nginx/nginx.conf.j2"),
        "nginx/association.js": (_HERE / "nginx/association.js").read_text(encoding="utf-8"),
    }
    if service.postgres is not None:
        files |= {
            "postgres/postgresql.conf": template("postgres/postgresql.conf.j2"),
            "postgres/pg_hba.conf": template("postgres/pg_hba.conf.j2"),
            "postgres-init/create.sql": template("postgres/create.sql.j2"),
        }
    return files


def _receivers(service: Service) -> list[Mapping[str, object]]:
    """The modalities that images may be sent to, each with its inside port and the name that its certificate must carry."""
    ports = outgoing_ports(m.aet for m in service.modalities if m.address is not None)
    return [
        {
            "aet": m.aet,
            "port": ports[m.aet],
            "target": endpoint(m.address, m.port),
            "name": places.modality_host(m.aet),
        }
        for m in service.modalities
        if m.address is not None and m.port is not None
    ]


def _logging(logs: RotatedFiles | CloudWatchLogs) -> Mapping[str, object]:
    if isinstance(logs, RotatedFiles):
        return {"driver": "json-file", "options": {"max-size": f"{logs.file_mb}m", "max-file": str(logs.files)}}
    return {
        "driver": "awslogs",
        "options": {
            "awslogs-region": logs.region,
            "awslogs-group": logs.group,
            # The names of the containers tell the streams apart; Docker fills this in.
            "tag": "{{.Name}}",
            "mode": "non-blocking",
            "max-buffer-size": "8m",
        },
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
