from __future__ import annotations

from ipaddress import IPv4Network
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from infra.network import layout

VPCS = st.integers(16, 24).flatmap(
    lambda p: st.integers(0, 2 ** (p - 8) - 1).map(lambda n: IPv4Network((10 * 2**24 + n * 2 ** (32 - p), p)))
)
ZONES = st.lists(st.sampled_from("abcdef"), min_size=2, max_size=4, unique=True)


@given(VPCS, ZONES)
def test_subnets_fit_into_the_vpc_and_never_overlap(vpc: IPv4Network, zones: list[str]) -> None:
    subnets = [net for pair in layout(vpc, zones).values() for net in pair]
    assert all(net.subnet_of(vpc) and net.prefixlen <= 28 for net in subnets)
    assert not any(a.overlaps(b) for a, b in combinations(subnets, 2))


@given(VPCS, ZONES, ZONES)
def test_a_zone_keeps_its_subnets_when_others_come_and_go(vpc: IPv4Network, before: list[str], after: list[str]) -> None:
    old, new = layout(vpc, before), layout(vpc, after)
    assert all(old[zone] == new[zone] for zone in set(before) & set(after))


def test_the_default() -> None:
    assert {zone: tuple(map(str, pair)) for zone, pair in layout(IPv4Network("10.60.0.0/20"), "ab").items()} == {
        "a": ("10.60.0.0/24", "10.60.8.0/24"),
        "b": ("10.60.1.0/24", "10.60.9.0/24"),
    }
