"""Who can reach a server that listens where the settings say, and what they must give for it."""

from __future__ import annotations

import ipaddress

from webui.errors import InvalidSetting

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can be reached from this machine only."""
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, *, share: bool, auth: str, api_key: str) -> None:
    """Refuse to be reachable from elsewhere without a login and a key. Raises `InvalidSetting`."""
    if not share and is_loopback(host):
        return
    missing = [name for name, value in (("--auth user:password", auth), ("--api-key KEY", api_key)) if not value]
    if not missing:
        return
    what = "A public address (--share)" if share else f"Listening on {host}"
    needed = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} needed"
    raise InvalidSetting(
        f"{what} lets others reach this server, so {needed}.",
        hint="Give both, or listen on 127.0.0.1.",
    )
