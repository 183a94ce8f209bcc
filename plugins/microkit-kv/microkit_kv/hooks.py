"""The hook that this plugin adds."""

from __future__ import annotations

from collections.abc import Iterable

from microkit import hookspec

from .schemes import StoreSpec


@hookspec
def microkit_kv_stores() -> StoreSpec | Iterable[StoreSpec] | None:
    """Offer kinds of stores.

    Called once per build.

    Returns:
        Stores by the scheme of their URL; the setting `url` of this plugin selects one. Of two for one scheme the later
        one is used. Name this plugin in `after` and mark the implementation `optionalhook=True`, or name it in
        `requires`.
    """
