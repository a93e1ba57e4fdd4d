"""Broker URLs: parse, redact, build.

The generic syntax is RFC 3986's, with two habits of this field: `+` joins a plugin's scheme to what it drives
(`sqlalchemy+sqlite:///…`), and several hosts stand in one URL, apart by `;` or `,`. A URL is immutable and
thread-safe. No text made from it shows a secret, except by the one call `render(reveal_secrets=True)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address
from typing import Any, NoReturn, Self, final
from urllib.parse import quote, unquote

from brokerkit._secrets import MASK, is_secret_name, masked, masker, secrets_in
from brokerkit.errors import InvalidURL

__all__ = ["MASK", "URL", "is_secret_name"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(?:\+([A-Za-z][A-Za-z0-9+.-]*))?://", re.ASCII)
_LIST = re.compile(r";(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_NO_HOST = re.compile(r"[\s\x00-\x1f\x7f:?#@\[\]]")
_MAX_PORT = 65535
_DIGITS = len(str(_MAX_PORT))


@final
class URL:
    """One engine's address.

    Attributes:
        scheme: picks the plugin, in lower case: "redis"; of "sqlalchemy+sqlite" it is "sqlalchemy".
        driver: what stood behind the `+`, or an empty text.
        username: decoded, or None; an empty one counts as none.
        password: decoded, or None; the one attribute to keep out of texts.
        hosts: (host, port) pairs; names in lower case, IPv6 addresses without brackets. The port is None where none was
            given, the host empty in "redis://:6379".
        path: decoded, with its leading slash, or empty.
        query: decoded (name, value) pairs in their order, no name twice.
    """

    __slots__ = ("driver", "hosts", "password", "path", "query", "scheme", "username")

    scheme: str
    driver: str
    username: str | None
    password: str | None
    hosts: tuple[tuple[str, int | None], ...]
    path: str
    query: tuple[tuple[str, str], ...]

    def __init__(
        self,
        scheme: str,
        *,
        driver: str = "",
        username: str | None = None,
        password: str | None = None,
        hosts: Iterable[tuple[str, int | None]] = (),
        path: str = "",
        query: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        """Build a URL from decoded parts; no percent-encoding is needed in any of them.

        Raises:
            InvalidURL: a part cannot stand in a URL.
        """
        pairs = tuple(query.items() if isinstance(query, Mapping) else query)
        if not _SCHEME.fullmatch(f"{scheme}+{driver}://" if driver else f"{scheme}://") or "+" in scheme:
            raise InvalidURL(f"scheme {scheme!r} or driver {driver!r} has other than letters, digits, '.' and '-'")
        if path and not path.startswith("/"):
            raise InvalidURL("the path must begin with '/'")
        _refuse_twice(pairs)
        put = object.__setattr__
        put(self, "scheme", scheme.lower())
        put(self, "driver", driver.lower())
        put(self, "username", username or None)
        put(self, "password", password)
        put(self, "hosts", tuple(_checked_host(host, port) for host, port in hosts))
        put(self, "path", path)
        put(self, "query", pairs)

    @classmethod
    def parse(cls, text: str | URL) -> URL:
        """Read a URL, or a `;` list of URLs that differ only in their hosts.

        Raises:
            InvalidURL: naming the part, and what to write instead; never showing a secret.
        """
        if isinstance(text, URL):
            return text
        if not isinstance(text, str):
            raise InvalidURL(f"a URL must be a text, not {type(text).__name__}")
        first, *others = [_parse_one(part) for part in _LIST.split(text.strip())]
        hosts = list(first.hosts)
        for other in others:
            if (other.scheme, other.driver) != (first.scheme, first.driver):
                raise InvalidURL(f"one list of URLs mixes {first.full_scheme} and {other.full_scheme}; use one scheme")
            if (other.username, other.password) not in ((None, None), (first.username, first.password)):
                raise InvalidURL("the URLs of one list differ in their credentials; give them once, in the first")
            if other.path not in ("", "/", first.path) or (other.query and other.query != first.query):
                raise InvalidURL("the URLs of one list differ in path or query; give both once, in the first")
            hosts += other.hosts
        return first._replace(hosts=tuple(hosts))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a URL is immutable; build a new one to change {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a URL is immutable; build a new one without {name!r}")

    @property
    def full_scheme(self) -> str:
        """The scheme as it is written: "sqlalchemy+sqlite"."""
        return f"{self.scheme}+{self.driver}" if self.driver else self.scheme

    @property
    def virtual_host(self) -> str:
        """The path without its leading slash."""
        return self.path.removeprefix("/")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret text in the URL, decoded: the password, and what the query holds; longest first."""
        found = {self.password or "", *(text for name, value in self.query for text in secrets_in(name, value))}
        return tuple(sorted(found - {""}, key=lambda text: (-len(text), text)))

    def mask(self, text: str) -> str:
        """Return `text` with every secret of this URL, however it is escaped there, replaced by `***`."""
        return masker(self.secrets)(text)

    def with_query(self, query: Iterable[tuple[str, str]]) -> URL:
        """Return the same URL with another query."""
        return self._replace(query=tuple(query))

    def render(self, *, reveal_secrets: bool) -> str:
        """Return the URL as text. With `reveal_secrets=True` this is the only call that shows a password."""

        def shown(name: str, value: str) -> str:
            return quote(value, safe="/:,") if reveal_secrets else quote(masked(name, value), safe="/:,*")

        user = "" if self.username is None else quote(self.username, safe="")
        if self.password is not None:
            user += f":{quote(self.password, safe='') if reveal_secrets else MASK}"
        hosts = ";".join(_host_text(host, port) for host, port in self.hosts)
        query = "&".join(f"{quote(name, safe='')}={shown(name, value)}" for name, value in self.query)
        at = "@" if user else ""
        return f"{self.full_scheme}://{user}{at}{hosts}{quote(self.path, safe='/:')}{'?' if query else ''}{query}"

    def __str__(self) -> str:
        return self.render(reveal_secrets=False)

    def __repr__(self) -> str:
        return f"URL({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URL) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def __reduce__(self) -> tuple[Any, ...]:
        if self.secrets:
            raise TypeError("this URL holds a secret and is not pickled; send url.render(reveal_secrets=True) yourself")
        return URL.parse, (self.render(reveal_secrets=True),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def _parts(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def _replace(self, **changes: Any) -> URL:
        return URL(**({name: getattr(self, name) for name in self.__slots__} | changes))


def _parse_one(text: str) -> URL:
    head = _SCHEME.match(text)
    if head is None:
        # what stands before a ':' is shown only if there is no '@', or it could be half of some credentials
        shown = repr(text.split(":", 1)[0][:40]) if ":" in text and "@" not in text else "the URL"
        raise InvalidURL(f"{shown} does not begin with a scheme; write scheme://…, for example memory://")
    rest = text[head.end() :]
    if "#" in rest:
        raise InvalidURL("a URL takes no fragment: write '#' in a user name, password or path as %23")
    if _CONTROL.search(rest):
        raise InvalidURL("a URL takes no control characters: write a line break in a password as %0A")
    before, mark, query = rest.partition("?")
    authority, slash, path = before.partition("/")
    userinfo, at, hostlist = authority.rpartition("@")
    if "@" in userinfo:
        raise InvalidURL("the part before the host has an '@'; write '@' in a user name or password as %40")
    if authority and "@" in path + query:
        # else the tail of a password with an unescaped '/' would pass for a path, and be shown
        raise InvalidURL("an '@' stands behind the host; write it as %40, and '/' and '?' in a password as %2F and %3F")
    user, colon, password = userinfo.partition(":")
    if ":" in password:
        raise InvalidURL("the password has a ':'; write it as %3A")
    return URL(
        head[1],
        driver=head[2] or "",
        username=_decode(user, "user name") if at else None,
        password=_decode(password, "password") if colon else None,
        hosts=[_host(part, may_be_secret=not at) for part in re.split("[;,]", hostlist) if part],
        path=_decode(slash + path, "path"),
        query=_query(query) if mark else (),
    )


def _decode(text: str, part: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise InvalidURL(f"the {part} has a '%' that begins no escape; write '%' as %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        pass  # raised below, so that the error does not carry this one, which carries the text
    raise InvalidURL(f"the {part} is percent-encoded, but not as UTF-8")


def _host(text: str, *, may_be_secret: bool) -> tuple[str, int | None]:
    # without an '@' the text may be a password with an unescaped '/', so it is not shown
    shown = MASK if may_be_secret else repr(text)
    host, colon, port = text.partition(":")
    if text.startswith("["):
        host, bracket, after = text.partition("]")
        colon, port = after[:1], after[1:]
        if not bracket or colon not in ("", ":"):
            raise InvalidURL(f"host {shown}: an IPv6 address stands in brackets, [::1]:6379")
        host += bracket
    if colon and not port:
        raise InvalidURL(f"host {shown} ends in ':' without a port; the URLs of a list stand apart by ';'")
    if ":" in port:
        raise InvalidURL(f"host {shown} has several ':'; an IPv6 address stands in brackets, [::1]:6379")
    if colon and not (port.isascii() and port.isdigit() and len(port) <= _DIGITS and int(port) <= _MAX_PORT):
        raise InvalidURL(
            f"the port of {shown} is not a number from 0 to {_MAX_PORT}; "
            "if it is part of a password, write '/' as %2F, '@' as %40, '?' as %3F"
        )
    name = _decode(host, "host")
    return _address(name[1:-1]) if host.startswith("[") else name, int(port) if colon else None


def _address(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError:
        pass
    raise InvalidURL("what stands in brackets is no IPv6 address; write [::1]:6379, and a zone as [fe80::1%25eth0]")


def _checked_host(host: str, port: int | None) -> tuple[str, int | None]:
    """The pair in its one form, or refused. The host of a socket's path, `%2Frun%2Fx.sock`, keeps its case."""
    if port is not None and not 0 <= port <= _MAX_PORT:
        raise InvalidURL(f"port {port} is not a number from 0 to {_MAX_PORT}")
    if ":" in host:
        return _address(host), port
    if _NO_HOST.search(host):
        raise InvalidURL("a host has a blank, a control character or one of : ? # @ [ ] in it")
    if not host and port is None:
        raise InvalidURL("a host is empty")
    return host if "/" in host else host.lower(), port


def _query(text: str) -> tuple[tuple[str, str], ...]:
    # RFC 3986: a '+' is a '+'; only HTML forms read it as a space
    pairs = [part.partition("=") for part in text.split("&")] if text else []
    if any(not name or not equals for name, equals, _ in pairs):
        raise InvalidURL("the query must be name=value pairs joined by '&'")
    return tuple((_decode(name, "query"), _decode(value, "query")) for name, _, value in pairs)


def _refuse_twice(query: tuple[tuple[str, str], ...]) -> None:
    names = [name for name, _ in query]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidURL(f"option {twice!r} stands twice in the URL's query; give it once")


def _host_text(host: str, port: int | None) -> str:
    shown = f"[{quote(host, safe=':')}]" if ":" in host else quote(host, safe="*.-_~")
    return shown if port is None else f"{shown}:{port}"
