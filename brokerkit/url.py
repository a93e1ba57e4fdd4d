"""Broker URLs: parse, redact, build.

The generic syntax is RFC 3986's, with two habits of this field: `+` joins a plugin's scheme to what it drives
(`sqlalchemy+sqlite:///…`), and several hosts stand in one URL, apart by `;` or `,`. A URL is immutable and
thread-safe. No text made from it shows a secret, except by the one call `render(reveal_secrets=True)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn, final
from urllib.parse import parse_qsl, quote, unquote

from brokerkit.errors import InvalidURL

__all__ = ["MASK", "URL", "is_secret_name"]

MASK: Final = "***"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(?:\+([A-Za-z][A-Za-z0-9+.-]*))?://", re.ASCII)
_LIST = re.compile(r";(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_SECRET_NAME = re.compile(r"passw|secret|token|credential|api_?key|access_?key|private", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Tell whether an option of this name is likely to hold a secret."""
    return _SECRET_NAME.search(name) is not None


@final
class URL:
    """One engine's address.

    Attributes:
        scheme: picks the plugin, in lower case: "redis"; of "sqlalchemy+sqlite" it is "sqlalchemy".
        driver: what stood behind the `+`, or an empty text.
        username: decoded, or None.
        password: decoded, or None; the one attribute to keep out of texts.
        hosts: (host, port) pairs; the port is None where none was given.
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
        """Build a URL from decoded parts; no percent-encoding is needed in any of them."""
        put = object.__setattr__
        put(self, "scheme", scheme.lower())
        put(self, "driver", driver.lower())
        put(self, "username", username)
        put(self, "password", password)
        put(self, "hosts", tuple(hosts))
        put(self, "path", path)
        put(self, "query", tuple(query.items() if isinstance(query, Mapping) else query))

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
                raise InvalidURL(f"one list of URLs mixes {first.scheme!r} and {other.scheme!r}; use one scheme")
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
        """Every secret text in the URL, decoded and percent-encoded, longest first."""
        values = [self.password, *(value for name, value in self.query if is_secret_name(name))]
        found = {text for value in values if value for text in (value, quote(value, safe=""), quote(value))}
        return tuple(sorted(found, key=len, reverse=True))

    def mask(self, text: str) -> str:
        """Return `text` with every secret of this URL replaced by `***`."""
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        return text

    def with_query(self, query: Iterable[tuple[str, str]]) -> URL:
        """Return the same URL with another query."""
        return self._replace(query=tuple(query))

    def render(self, *, reveal_secrets: bool) -> str:
        """Return the URL as text. With `reveal_secrets=True` this is the only call that shows a password."""

        def secret(value: str) -> str:
            return quote(value, safe="") if reveal_secrets else MASK

        user = "" if self.username is None else quote(self.username, safe="")
        if self.password is not None:
            user += f":{secret(self.password)}"
        hosts = ";".join(_host_text(host, port) for host, port in self.hosts)
        query = "&".join(
            f"{quote(name, safe='')}={secret(value) if is_secret_name(name) else quote(value, safe='/:,')}"
            for name, value in self.query
        )
        at = "@" if self.username is not None or self.password is not None else ""
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

    def _parts(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def _replace(self, **changes: Any) -> URL:
        return URL(**({name: getattr(self, name) for name in self.__slots__} | changes))


def _parse_one(text: str) -> URL:
    head = _SCHEME.match(text)
    if head is None:
        shown = text.split(":", 1)[0] if ":" in text else text
        raise InvalidURL(f"{shown[:40]!r} does not begin with a scheme; write scheme://…, for example memory://")
    rest = text[head.end() :]
    if "#" in rest:
        raise InvalidURL("a URL takes no fragment: write '#' in a user name, password or path as %23")
    before, mark, query = rest.partition("?")
    authority, slash, path = before.partition("/")
    userinfo, at, hostlist = authority.rpartition("@")
    if "@" in userinfo:
        raise InvalidURL("the part before the host has an '@'; write '@' in a user name or password as %40")
    user, colon, password = userinfo.partition(":")
    if ":" in password:
        raise InvalidURL("the password has a ':'; write it as %3A")
    return URL(
        head[1],
        driver=head[2] or "",
        username=_decode(user, "user name") if at and (user or not colon) else None,
        password=_decode(password, "password") if colon else None,
        hosts=tuple(_host(part, may_be_secret=not at) for part in re.split("[;,]", hostlist) if part),
        path=_decode(slash + path, "path"),
        query=_query(query) if mark else (),
    )


def _decode(text: str, part: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise InvalidURL(f"the {part} has a '%' that begins no escape; write '%' as %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidURL(f"the {part} is percent-encoded, but not as UTF-8") from None


def _host(text: str, *, may_be_secret: bool) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise InvalidURL(f"host {text!r}: an IPv6 address stands in brackets, [::1]:6379")
        port = port[1:]
    else:
        host, _, port = text.partition(":")
    if not port:
        return _decode(host, "host").lower(), None
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:  # noqa: PLR2004 - the highest TCP port
        # without an '@' this may be a password with an unescaped '/', so it is not shown
        shown = MASK if may_be_secret else repr(port)
        raise InvalidURL(
            f"port {shown} is not a number from 0 to 65535; if it is part of a password, write '/' as %2F, '@' as %40, '?' as %3F"
        )
    return _decode(host, "host").lower(), int(port)


def _query(text: str) -> tuple[tuple[str, str], ...]:
    if not text:
        return ()
    _decode(text, "query")
    try:
        # RFC 3986: a '+' is a '+'; only HTML forms read it as a space
        pairs = parse_qsl(text.replace("+", "%2B"), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise InvalidURL("the query must be name=value pairs joined by '&'") from None
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidURL(f"option {twice!r} stands twice in the URL's query; give it once")
    return tuple(pairs)


def _host_text(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else quote(host, safe="*.-_~")
    return shown if port is None else f"{shown}:{port}"
