"""What the tests of dependencies share."""

from __future__ import annotations

from typing import Any


class Log(list[str]):
    """Writes down what a dependency goes through."""

    def dependency(self, name: str, *, fail: str = "") -> Any:
        async def recorded() -> Any:
            self.append(f"+{name}")
            if fail == "set-up":
                raise ValueError(f"{name} cannot be set up")
            try:
                yield name
            except BaseException as exc:
                self.append(f"!{name} {type(exc).__name__}")
                raise
            else:
                self.append(f"-{name}")
            finally:
                if fail == "teardown":
                    raise ValueError(f"{name} cannot be left")

        return recorded
