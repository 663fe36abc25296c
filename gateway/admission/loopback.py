"""Addresses that only this machine can have."""

import ipaddress


def is_loopback(address: str) -> bool:
    """Whether the address is a loopback address, which only this machine can have."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
