"""Services to be found by tests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar

from microkit import Request, ServiceProvider

T = TypeVar("T")


class Settings:
    url = "sqlite"


class Repo:
    built = 0

    def __init__(self, settings: Settings, size: int = 5) -> None:
        type(self).built += 1
        self.settings, self.size = settings, size


class Mailer(Protocol):
    def send(self, to: str) -> str: ...


class Smtp:
    def send(self, to: str) -> str:
        return f"smtp:{to}"


class Clock(ABC):
    @abstractmethod
    def now(self) -> int: ...


class Fixed(Clock):
    def now(self) -> int:
        return 42


class User: ...


class Store(Generic[T]):
    async def all(self) -> list[str]:
        return [type(self).__name__]


class SqlStore(Store[T]): ...


class UserStore(SqlStore[User]): ...


class IntStore(SqlStore[int]): ...


class Where:
    def __init__(self, request: Request) -> None:
        self.path = request.path


class Page:
    def __init__(self, where: Where, repo: Repo) -> None:
        self.where, self.repo = where, repo


class Services(ServiceProvider):
    def services(self) -> Iterable[Any]:
        yield Settings
        yield Repo
        yield Mailer, Smtp
        yield Fixed
        yield UserStore
        yield IntStore
        yield Where
        yield Page
        yield "greeting", "hello"
