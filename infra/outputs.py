"""What a person needs next, after `pulumi up`."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from infra.host import OrthancHost
from infra.release import ConfigRelease
from infra.secrets import HostSecrets
from infra.settings import Modality, Settings
from infra.stack import Stack
from infra.tls import TlsMaterial


def of(  # noqa: PLR0913, PLR0917 - one for each place that an output comes from
    s: Settings, stack: Stack, host: OrthancHost, tls: TlsMaterial, secrets: HostSecrets, release: ConfigRelease
) -> Mapping[str, object]:
    name = s.domain_name or host.address
    port = "" if s.web_port == 443 else f":{s.web_port}"
    return {
        "url": pulumi.Output.format("https://{0}{1}/", name, port),
        "dicom": pulumi.Output.format("{0}@{1}:{2} (TLS, client certificate)", s.aet, name, s.dicom_port),
        "address": host.address,
        "service": {  # the same for programs: operations/deployed.py reads it
            "host": name,
            "certificateName": tls.server_name,
            "aet": s.aet,
            "dicomPort": s.dicom_port,
            "webPort": s.web_port,
            "admins": [u.name for u in s.users if u.role == "admin"],
            "modalities": {m.aet: _said(m) for m in s.modalities},
        },
        "authority": tls.outside_authority,  # what browsers and modalities shall trust
        "passwords": secrets.passwords,
        "modalities": pulumi.Output.secret({aet: tls.bundle(aet) for aet in tls.modalities}),
        "release": release.sha256,
        "proven": stack.path("proven"),
        "next": {
            "password": f"pulumi stack output passwords --show-secrets --stack {stack.name}",
            "enrol": f"docs/aws.md, Modalities; then hand over what this writes: make modality AET=... STACK={stack.name}",
            "verify": f"make verify STACK={stack.name}",
            "trust": f"pulumi stack output authority --stack {stack.name} > authority.pem, and import it where people browse",
            "status": f"aws ssm get-parameter --name {stack.path('proven')} --query Parameter.Value --output text",
        },
    }


def _said(modality: Modality) -> Mapping[str, object]:
    receives = {} if modality.address is None else {"address": str(modality.address), "port": modality.port}
    return {"may": list(modality.may), **receives}
