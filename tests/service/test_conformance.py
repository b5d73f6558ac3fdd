"""docs/conformance.md promises vendors what the service answers: SOP classes and transfer syntaxes, each asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from pydicom._uid_dict import UID_dictionary  # the standard's own list; pydicom has no public name for it
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time from the standard's tables
    CTImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
)

from laptop.peer import Peer
from laptop.site import Enrolment
from tests.service.stack import Stack

PAGE = (Path(__file__).resolve().parents[2] / "docs/conformance.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
NO_SERVICE = 3  # PS3.8 table 9-18: abstract-syntax-not-supported
NOBODYS = "1.2.3.4"


@pytest.fixture(scope="module")
def peer(stack: Stack) -> Iterator[Peer]:
    """A modality with every right that there is: what it does not get, nobody gets."""
    stack.enrol(Enrolment(aet="ALLRIGHTS", may=("store", "find", "worklist", "move", "get")))
    yield stack.peer("ALLRIGHTS")
    stack.strike("ALLRIGHTS")


def answers(peer: Peer, proposed: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], int | None]:
    """For each SOP class with a transfer syntax, what its presentation context was answered with; 0 is acceptance."""
    # CT images by implicit VR are always taken: an association without any accepted context would be none.
    asked = [(CTImageStorage, ImplicitVRLittleEndian), *proposed]
    entity = AE(ae_title=peer.aet)
    association = entity.associate(
        peer.host,
        peer.port,
        ae_title=peer.called,
        tls_args=(peer.context(), peer.host),
        contexts=[build_context(service, syntax) for service, syntax in asked],
    )
    answered = {context.context_id: context.result for context in association.accepted_contexts + association.rejected_contexts}
    association.release()
    assert answered[1] == 0
    return {pair: answered[2 * index + 1] for index, pair in enumerate(asked)}


def test_a_sop_class_is_a_service_where_the_page_says_so_and_else_is_none_whatever_the_rights(peer: Peer) -> None:
    said = {row[1].split()[-1]: row[3] for row in ROWS if len(row) == 4 and row[3] in {"yes", "no"} and "storage SOP" not in row[0]}
    assert len(said) >= 10
    assert set(said.values()) == {"yes", "no"}
    found = answers(peer, [(service, ImplicitVRLittleEndian) for service in said])
    assert {service: found[service, ImplicitVRLittleEndian] for service in said} == {
        service: 0 if scp == "yes" else NO_SERVICE for service, scp in said.items()
    }


def uids(cell: str) -> Iterator[str]:
    """`1.2.3.50 to 52, 1.2.3.70` as UIDs."""
    for first, last in re.findall(r"([\d.]+)(?: to (\d+))?", cell):
        base, _, number = first.rpartition(".")
        yield from (f"{base}.{n}" for n in range(int(number), int(last or number) + 1))


def test_images_are_taken_in_the_transfer_syntaxes_of_the_page_and_in_no_other(stack: Stack, peer: Peer) -> None:
    said = {uid for row in ROWS if len(row) == 2 and row[1].startswith("1.2.840.10008.1.2") for uid in uids(row[1])}
    known = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    assert len(said) > 30
    found = answers(peer, [(CTImageStorage, syntax) for syntax in sorted(known | said | {NOBODYS})])
    taken = {syntax for (_, syntax), result in found.items() if result == 0}
    assert said <= taken
    assert NOBODYS not in taken
    if stack.images.standins:  # the page speaks of their Orthanc; the pinned image's is newer, and may take more
        assert taken == said


def test_queries_use_implicit_or_explicit_vr_and_are_not_deflated(peer: Peer) -> None:
    syntaxes = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
    found = answers(peer, [(StudyRootQueryRetrieveInformationModelFind, syntax) for syntax in syntaxes])
    accepted = [found[StudyRootQueryRetrieveInformationModelFind, syntax] == 0 for syntax in syntaxes]
    assert accepted == [True, True, True, False]
