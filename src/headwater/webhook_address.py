"""Which URLs and network addresses a webhook may have; parses and judges, and contacts nobody."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from headwater.errors import InvalidInputError
from headwater.names import shown

__all__ = ["Address", "WebhookUrl", "forbidden", "parse_url"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LONGEST = 2000
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?")
_NUMBERLIKE = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*\.?")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")
_METADATA = frozenset(
    {
        *("169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
        *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
    }
)
"""Where clouds give a machine its credentials: nobody's webhook, whatever is allowed."""
_UNICAST = ipaddress.IPv6Network("2000::/3")
_SPECIAL = (
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv4Network("192.88.99.0/24"),
    ipaddress.IPv6Network("3fff::/20"),
)
"""What is set aside for protocols and documents, and that not every Python knows."""


@dataclass(frozen=True, slots=True)
class WebhookUrl:
    """A URL in its parts: the host as TLS and `Host` name it, and the path with the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        """The value of the `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def parse_url(text: str, *, allow_private: bool = False) -> WebhookUrl:
    """Return the parts of a webhook's URL.

    Args:
        text: The URL.
        allow_private: Whether it may be of a private network, and so go without TLS.

    Raises:
        InvalidInputError: It is none that a webhook may have.
    """
    if len(text) > _LONGEST or not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise InvalidInputError(f"not a URL: {shown(text)}", hint="write https://host/path, other characters as %xx")
    try:
        parts = urlsplit(text)
        port, host = parts.port, (parts.hostname or "")
    except ValueError:
        raise InvalidInputError(f"not a URL: {shown(text)}", hint="write https://host/path") from None
    if parts.scheme not in ("http", "https"):
        raise InvalidInputError(f"a webhook is posted to an https:// URL: {shown(_bare(text))}")
    if "@" in parts.netloc:
        raise InvalidInputError(
            f"a webhook's URL may hold no user and no password: {shown(_bare(text))}",
            hint="the lake keeps it for everybody to read; --secret-env and --secret-file sign what is posted",
        )
    if parts.fragment or text.endswith("#"):
        raise InvalidInputError("a webhook's URL has no part after #", hint="leave it out")
    if parts.scheme == "http" and not allow_private:
        raise InvalidInputError(
            f"what is posted to {shown(_bare(text))} could be read on the way",
            hint="write https://, or --allow-private where it is a network of your own",
        )
    address = _literal(host)
    if address is None and (not _HOST.fullmatch(host) or len(host) > 253):
        raise InvalidInputError(f"not the name of a host: {shown(host)}", hint="write https://host/path")
    if address is not None and (why := forbidden(address, allow_private=allow_private)) is not None:
        raise InvalidInputError(f"a webhook may not be at {shown(host)}: {why}", hint=_hint(address))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if port == 0:
        raise InvalidInputError(f"not a port: {shown(_bare(text))}", hint="leave :0 out")
    return WebhookUrl(parts.scheme, str(address) if address is not None else host, port or _port(parts.scheme), path)


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _bare(text: str) -> str:
    """Return a URL without what comes before its host: that may be a password."""
    scheme, slashes, rest = text.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    return scheme + slashes + authority.rpartition("@")[2] + rest[len(authority) :]


def _hint(address: Address) -> str:
    """Return what would allow an address, where anything would."""
    return "" if forbidden(address, allow_private=True) else "--allow-private allows networks of your own"


def _literal(host: str) -> Address | None:
    """Return the address that a host is written as, in any notation that some resolver takes for one."""
    if not host:
        return None
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    if not _NUMBERLIKE.fullmatch(host):
        return None
    # As inet_aton does: decimal, octal or hexadecimal, and the last part fills what is left of the four bytes.
    numbers = []
    for part in host.removesuffix(".").split("."):
        try:
            numbers.append(int(part, 16) if part.startswith("0x") else int(part, 8 if part[0] == "0" else 10))
        except ValueError:
            return None
    value = 0
    if len(numbers) > 4 or any(each > 255 for each in numbers[:-1]) or numbers[-1] >= 256 ** (5 - len(numbers)):
        return None
    for place, each in enumerate(numbers[:-1]):
        value |= each << (24 - 8 * place)
    return ipaddress.IPv4Address(value | numbers[-1])


def forbidden(address: Address, *, allow_private: bool) -> str | None:
    """Return why nothing may be posted to an address; None where it may.

    An IPv6 address that leads to an IPv4 one (mapped, translated, compatible, NAT64, 6to4, Teredo) is judged as both.

    Args:
        address: What a name was resolved to.
        allow_private: Whether this machine and private networks are allowed.
    """
    inner = _embedded(address)
    if inner is not None and (why := forbidden(inner, allow_private=allow_private)) is not None:
        return f"it leads to {inner}, and {why}"
    if any(str(each) in _METADATA for each in (address, *_behind_local_nat64(address))):
        return "that is where a cloud keeps the credentials of its machines"
    if address.is_unspecified:
        return "that is no address"
    if address.is_multicast:
        return "that is a multicast address"
    if allow_private:
        return "that is a broadcast address" if str(address) == "255.255.255.255" else None
    if address.is_loopback:
        return "that is the machine itself"
    if address.is_link_local:
        return "that is a link-local address"
    if isinstance(address, ipaddress.IPv6Address) and (address.is_site_local or address in _LOCAL_NAT64):
        return "that is a private address"
    if inner is None and not _is_public(address):
        return "that is a private or reserved address"
    return None


def _is_public(address: Address) -> bool:
    if not address.is_global or any(address in each for each in _SPECIAL):
        return False
    return isinstance(address, ipaddress.IPv4Address) or address in _UNICAST


def _behind_local_nat64(address: Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that a translator of one's own may lead to: one for each length of its prefix."""
    if address not in _LOCAL_NAT64:
        return []
    body = address.packed
    # Byte 8 is always left out (RFC 6052).
    parts = (body[6:8] + body[9:11], body[7:8] + body[9:12], body[9:13], body[12:16])
    return [ipaddress.IPv4Address(each) for each in parts]


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that packets to an IPv6 address may end up at."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or address in _TRANSLATED or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
