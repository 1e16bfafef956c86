"""Against IANA's special-purpose registries and what clouds document of themselves."""

import ipaddress

import pytest

from beholder.media.addresses import is_private, is_public

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "198.17.255.255",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",  # 8.8.8.8 behind NAT64
    "2606:4700:4700::1111",
    "2001:4860:4860::8888",
]
# Networks that the registries list as not globally reachable: the first and last address of each.
REGISTRY = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/29", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15"),
    *("198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4", "255.255.255.255/32", "224.0.0.0/4"),
    *("::1/128", "::/128", "64:ff9b:1::/48", "100::/64", "2001::/32", "2001:2::/48"),
    *("2001:10::/28", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7"),
    *("fe80::/10", "fec0::/10", "ff00::/8", "::ffff:127.0.0.0/104", "::7f00:0/104"),
    *("64:ff9b::7f00:0/104", "64:ff9b::a9fe:0/112", "::ffff:10.0.0.0/104"),
]
METADATA = [
    "169.254.169.254",  # AWS, GCP, Azure, DigitalOcean
    "169.254.170.2",  # AWS, containers
    "fd00:ec2::254",  # AWS over IPv6
    "100.100.100.200",  # Alibaba
    "192.0.0.192",  # Oracle
    "168.63.129.16",  # Azure's platform
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "fe80::a9fe:a9fe%eth0",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internets_addresses_are_public(address: str) -> None:
    assert is_public(address) and not is_private(address)


@pytest.mark.parametrize("network", REGISTRY)
def test_special_purposes_are_not(network: str) -> None:
    whole = ipaddress.ip_network(network, strict=False)
    for address in (whole[0], whole[-1]):
        assert not is_public(str(address))


@pytest.mark.parametrize("address", METADATA)
def test_a_clouds_metadata_is_neither_public_nor_private(address: str) -> None:
    assert not is_public(address) and not is_private(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "fd12:3456::1"]
)
def test_inner_networks_are_private(address: str) -> None:
    assert is_private(address) and not is_public(address)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "fe80::1"])
def test_neither_is_what_no_host_has(address: str) -> None:
    assert not is_private(address)
