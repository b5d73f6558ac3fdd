"""docs/rotation.md: its commands change authorities and a password of a kept stack, with the real engine and the real certificates."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator

import pytest
from cryptography import x509

from rehearsal.laboratory import ROOT, Laboratory, missing

pytestmark = pytest.mark.engine

TEXT = (ROOT / "docs/rotation.md").read_text(encoding="utf-8")
# The stack's certificates and one password, without AWS: what rotates, and nothing that takes minutes.
PROGRAM = """
import pulumi
import pulumi_random as random

from infra.settings import Modality
from infra.stack import configured
from infra.tls import TlsMaterial, TlsMaterialArgs

s, stack = configured()
tls = TlsMaterial(
    "tls",
    TlsMaterialArgs(
        stack=stack,
        address="192.0.2.10",
        domain_name="",
        modalities=[Modality(aet="CT1", may=["store"])],
        modality_days=1095,
        outside_authority=s.outside_authority,
        inside_authority=s.inside_authority,
        server_certificate=1,
        inside_certificates=1,
        outgoing_certificate=1,
    ),
)
pulumi.export("authority", tls.outside_authority)
pulumi.export("inside", {"authority": tls.inside_authority, "orthanc": tls.orthanc_authority, "caller": tls.gateway.certificate})
pulumi.export("enrolled", tls.enrolled())
made = random.RandomPassword("secrets-password-admin", length=32, special=False)
pulumi.export("passwords", pulumi.Output.secret({"admin": made.result}))
"""


@pytest.fixture
def lab() -> Iterator[Laboratory]:
    if lacking := missing():
        pytest.skip(f"not on PATH: {', '.join(lacking)} (docs/aws.md, Rehearsal)")
    lab = Laboratory()  # not entered: nothing here asks AWS
    (lab.project / "__main__.py").write_text(PROGRAM, encoding="utf-8")
    lab.pulumi("stack", "init", "prod")
    lab.pulumi("up", "--yes", stack="prod")
    yield lab
    shutil.rmtree(lab.home)


def section(title: str) -> str:
    (found,) = re.findall(rf"(?ms)^## {title}\n(.*?)(?=^## |\Z)", TEXT)
    return str(found)


def block(title: str) -> str:
    (found,) = re.findall(r"(?ms)^ *```sh\n(.*?)^ *```", section(title))
    return textwrap.dedent(found).replace("STACK", "prod").replace("NAME", "admin")


def shell(lab: Laboratory, commands: str) -> str:
    done = subprocess.run(
        ["sh", "-ec", commands], cwd=lab.project, env=lab.environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def signed(lab: Laboratory, by: str) -> bool:
    """Whether the modality's certificate is one of this authority."""
    authority, leaf = (x509.load_pem_x509_certificate(pem.encode()) for pem in (by, lab.outputs("prod")["enrolled"]["CT1"]["1"]))
    return leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == (
        authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    )


def deleted(lab: Laboratory) -> set[str]:
    return {name for name, op in lab.plan("prod").items() if op == "delete"}


def protected(lab: Laboratory, code: int | None) -> str:
    told = lab.pulumi("preview", stack="prod", code=None)
    assert (told.code == 0) == (code == 0), told.said
    return told.said


def test_the_outside_authority_of_a_kept_stack(lab: Laboratory) -> None:
    old = lab.outputs("prod")["authority"]
    shell(lab, "pulumi config set orthanc:outsideAuthority 2 --stack prod")
    assert "tls-outside-1-authority" in protected(lab, None)
    shell(lab, block("The outside authority"))
    gone = deleted(lab)
    assert gone
    assert all(name.startswith("tls-outside-1-") for name in gone), gone
    lab.pulumi("up", "--yes", stack="prod")
    new = lab.outputs("prod")["authority"]
    assert new != old
    assert signed(lab, new)
    assert not signed(lab, old)
    assert "`pulumi stack output authority --stack STACK > authority.pem`" in section("The outside authority")
    shell(lab, "pulumi stack output authority --stack prod > authority.pem")
    assert (lab.project / "authority.pem").read_text().strip() == new.strip()
    shell(lab, "pulumi config set orthanc:outsideAuthority 3 --stack prod")
    assert "tls-outside-2-authority" in protected(lab, None), "the new one is not protected"


def test_the_inside_authorities_of_a_kept_stack(lab: Laboratory) -> None:
    old = lab.outputs("prod")
    shell(lab, "pulumi config set orthanc:insideAuthority 2 --stack prod")
    assert "protected" in protected(lab, None)
    shell(lab, block("The inside authorities"))
    protected(lab, 0)
    lab.pulumi("up", "--yes", stack="prod")
    new = lab.outputs("prod")
    assert all(new["inside"][what] != old["inside"][what] for what in old["inside"])
    assert (new["authority"], new["enrolled"]) == (old["authority"], old["enrolled"]), "somebody outside would notice"


def test_a_web_password(lab: Laboratory) -> None:
    old = lab.outputs("prod")
    commands = block("A web password").replace("pulumi up", "pulumi up --yes --non-interactive")
    told = shell(lab, commands)
    new = lab.outputs("prod")
    assert new["passwords"] != old["passwords"]
    assert new["passwords"]["admin"] in told
    assert new["enrolled"] == old["enrolled"]


def test_a_stack_in_another_region_begins_with_the_old_ones_settings(lab: Laboratory) -> None:
    """Up to `make up`; with the laboratory's passphrase instead of a key of KMS."""
    (found,) = (block for block in re.findall(r"(?ms)^```sh\n(.*?)^```", section("To another region")) if "stack init" in block)
    commands = re.sub(r" --secrets-provider '.*?'|^(aws|make) .*\n", "", found, flags=re.MULTILINE).replace("STACK", "prod")
    old = {key: said["value"] for key, said in json.loads(shell(lab, "pulumi config --json --stack prod")).items()}
    shell(lab, commands.replace("NEW", "elsewhere").replace("zones[0]' a", "zones[0]' c"))
    new = {key: said["value"] for key, said in json.loads(shell(lab, "pulumi config --json --stack elsewhere")).items()}
    assert json.loads(old.pop("orthanc:zones")) == ["a", "b"]
    assert json.loads(new.pop("orthanc:zones")) == ["c", "b"]
    assert new == {**old, "aws:region": "eu-central-1", "orthanc:restoreFrom": "moving"}
    salt = re.compile(r"(?m)^encryptionsalt: .*$")
    before, after = (salt.findall((lab.project / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8")) for stack in ("prod", "elsewhere"))
    assert len(before) == len(after) == 1
    assert before != after


def test_settings_are_set_and_dropped_as_pages_say(lab: Laboratory) -> None:
    shell(lab, "pulumi config set --path 'orthanc:dicomCidrs[0]' 203.0.113.0/24 --stack prod")
    shell(lab, "pulumi config set orthanc:restoreFrom moving --stack prod")
    said = shell(lab, "pulumi config --json --stack prod")
    assert "203.0.113.0/24" in said
    assert "moving" in said
    shell(lab, "pulumi config rm orthanc:restoreFrom --stack prod")
    assert "moving" not in shell(lab, "pulumi config --json --stack prod")
