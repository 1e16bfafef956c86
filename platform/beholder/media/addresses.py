"""Which network addresses a name from outside may lead to.

Written out from IANA's special-purpose registries (RFC 6890 and its updates), because the
standard library's ``is_global`` differs between patch releases and calls multicast, 6to4 and the
clouds' own public addresses global.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_NOT_PUBLIC_V4 = [
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private use
        "100.64.0.0/10",  # carrier-grade NAT; some clouds' metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's platform channel, though a public address
        "169.254.0.0/16",  # link-local; most clouds' metadata
        "172.16.0.0/12",  # private use
        "192.0.0.0/24",  # IETF protocols; a cloud's metadata
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private use
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
]
_GLOBAL_UNICAST = ip_network("2000::/3")
_NOT_PUBLIC_V6 = [
    ip_network(text)
    for text in (
        "2001::/23",  # IETF protocols, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
    )
]
_NAT64 = ip_network("64:ff9b::/96")
_PRIVATE = [
    ip_network(text)
    for text in ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1", "fc00::/7")
]
_METADATA_V6 = ip_network("fd00:ec2::/32")
"""Where AWS keeps an instance's keys, inside the private range."""


def is_public(text: str) -> bool:
    """Whether an address is one of the Internet's: no special purpose, no IPv4 in disguise.

    Args:
        text: IPv4 or IPv6, as the resolver writes it. An IPv4 address that is mapped into IPv6
            (RFC 4291) or reached through NAT64 (RFC 6052) is judged itself.

    Raises:
        ValueError: it is no address.
    """
    address = _unwrapped(text)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _NOT_PUBLIC_V6)


def is_private(text: str) -> bool:
    """Whether an address is of an inner network or this machine, but never a cloud's metadata.

    Raises:
        ValueError: it is no address.
    """
    address = _unwrapped(text)
    return any(address in network for network in _PRIVATE) and address not in _METADATA_V6


def _unwrapped(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(address.packed[-4:]) if address in _NAT64 else address
