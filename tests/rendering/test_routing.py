"""The inside port of each modality: its own, whoever else comes or goes."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st

from config_templates import places
from config_templates.routing import FIRST_PORT, PORTS, outgoing_ports

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
_aets = st.text(_LETTERS, min_size=1, max_size=16)
_sites = st.sets(_aets, max_size=40)


def _wish(aet: str) -> int:
    return crc32(aet.encode()) % PORTS


def _colliding(count: int) -> list[str]:
    """AE titles that all wish for one port."""
    wished: dict[int, list[str]] = {}
    number = 0
    while True:
        aet = f"CT{number}"
        wished.setdefault(_wish(aet), []).append(aet)
        if len(wished[_wish(aet)]) == count:
            return wished[_wish(aet)]
        number += 1


@given(_sites)
def test_every_modality_has_one_port_of_its_own_in_the_range(aets: set[str]) -> None:
    ports = outgoing_ports(aets)
    assert ports.keys() == aets
    assert len(set(ports.values())) == len(aets)
    assert all(FIRST_PORT <= port < FIRST_PORT + PORTS for port in ports.values())


@given(st.lists(_aets, unique=True, max_size=20).flatmap(lambda aets: st.tuples(st.just(aets), st.permutations(aets))))
def test_the_order_in_which_modalities_are_listed_does_not_matter(listings: tuple[list[str], list[str]]) -> None:
    one, another = listings
    assert outgoing_ports(one) == outgoing_ports(another)


@given(_sites, _aets)
@settings(max_examples=200)
def test_a_port_stays_when_another_modality_comes_unless_both_wish_for_the_same(aets: set[str], newcomer: str) -> None:
    before = outgoing_ports(aets)
    after = outgoing_ports({*aets, newcomer})
    moved = {aet for aet in aets if before[aet] != after[aet]}
    assert not moved or any(after[newcomer] == before[aet] for aet in moved)
    if all(abs(_wish(newcomer) - _wish(aet)) > len(aets) for aet in aets):
        assert moved == set()


def test_of_two_that_wish_for_one_port_only_the_later_one_moves_on() -> None:
    first, second, third = sorted(_colliding(3))
    alone = outgoing_ports([first])[first]
    assert outgoing_ports([third, first, second]) == {first: alone, second: alone + 1, third: alone + 2}
    assert outgoing_ports([second]) == {second: alone}


def test_a_wish_at_the_end_of_the_range_moves_on_to_its_beginning() -> None:
    number = 0
    last: list[str] = []
    while len(last) < 2:
        last += [f"M{number}"] * (_wish(f"M{number}") == PORTS - 1)
        number += 1
    assert set(outgoing_ports(last).values()) == {FIRST_PORT + PORTS - 1, FIRST_PORT}


def test_the_range_holds_none_of_the_gateways_other_ports() -> None:
    others = {places.GATEWAY_DICOM_PORT, places.GATEWAY_HTTPS_PORT, places.GATEWAY_ALIVE_PORT}
    assert not others & set(range(FIRST_PORT, FIRST_PORT + PORTS))


def test_no_connection_of_nginx_itself_can_occupy_a_port_of_the_range() -> None:
    first_ephemeral_port = 32768  # Linux's net.ipv4.ip_local_port_range, in every new network namespace
    assert first_ephemeral_port == FIRST_PORT + PORTS  # and none of the room below is given away


def test_ports_are_the_same_on_every_run_of_python() -> None:
    # zlib's crc32 is fixed by its definition; Python's own hash() is salted for each process.
    assert outgoing_ports(["CT1"]) == {"CT1": FIRST_PORT + crc32(b"CT1") % PORTS}
    assert "hash(" not in (Path(__file__).parents[2] / "config_templates/routing.py").read_text(encoding="utf-8")
