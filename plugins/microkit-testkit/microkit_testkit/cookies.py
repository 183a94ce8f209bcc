"""The cookies that a client keeps (RFC 6265, for one host)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from .scopes import path_of


@dataclass(frozen=True)
class _Cookie:
    name: str
    value: str
    path: str
    secure: bool
    ends: float | None

    def fits(self, path: str, secure: bool, now: float) -> bool:
        below = path == self.path or path.startswith(self.path.rstrip("/") + "/")
        return below and (secure or not self.secure) and (self.ends is None or self.ends > now)


class CookieJar(Mapping[str, str]):
    """Cookies by name; those of a longer path win. Set one with `jar["name"] = "value"`.

    Args:
        cookies: to begin with, valid for every path.
        now: the time in seconds since the epoch; cookies end by it.
    """

    def __init__(self, cookies: Mapping[str, str] | None = None, now: Callable[[], float] = lambda: 0.0) -> None:
        self._now = now
        self._cookies: dict[tuple[str, str], _Cookie] = {}
        for name, value in (cookies or {}).items():
            self[name] = value

    def for_url(self, url: str, own: Mapping[str, str]) -> str:
        """The value of the Cookie field for a request, empty if there is none; longer paths first (section 5.4).

        Args:
            own: cookies of this request alone.
        """
        now, path, secure = self._now(), path_of(url), url.startswith("https:")
        fitting = [each for each in self._cookies.values() if each.fits(path, secure, now) and each.name not in own]
        fitting.sort(key=lambda each: -len(each.path))
        pairs = [(each.name, each.value) for each in fitting] + list(own.items())
        return "; ".join(f"{name}={value}" for name, value in pairs)

    def store(self, set_cookie: str, request_path: str) -> None:
        """Take over one Set-Cookie field (section 5.3); one whose end has passed deletes the cookie."""
        pair, *parts = set_cookie.split(";")
        name, _, value = pair.strip().partition("=")
        found = {key.strip().lower(): text.strip() for key, _, text in (part.partition("=") for part in parts)}
        path = found.get("path", "")
        if not path.startswith("/"):
            path = request_path.rpartition("/")[0] or "/"
        ends = self._ends(found)
        if ends is not None and ends <= self._now():
            self._cookies.pop((name, path), None)
        else:
            self._cookies[name, path] = _Cookie(name, value.strip('"'), path, "secure" in found, ends)

    def _ends(self, found: Mapping[str, str]) -> float | None:
        if "max-age" in found:
            return self._now() + int(found["max-age"])
        if "expires" not in found:
            return None
        ends = parsedate_to_datetime(found["expires"])
        return (ends if ends.tzinfo else ends.replace(tzinfo=UTC)).timestamp()

    def clear(self) -> None:
        """Forget all cookies."""
        self._cookies.clear()

    def __setitem__(self, name: str, value: str) -> None:
        self._cookies[name, "/"] = _Cookie(name, value, "/", False, None)

    def __delitem__(self, name: str) -> None:
        keys = [key for key in self._cookies if key[0] == name]
        if not keys:
            raise KeyError(name)
        for key in keys:
            del self._cookies[key]

    def _live(self) -> dict[str, str]:
        now = self._now()
        cookies = sorted(self._cookies.values(), key=lambda each: len(each.path))
        return {each.name: each.value for each in cookies if each.ends is None or each.ends > now}

    def __getitem__(self, name: str) -> str:
        return self._live()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._live())

    def __len__(self) -> int:
        return len(self._live())

    def __repr__(self) -> str:
        return f"CookieJar({self._live()})"
