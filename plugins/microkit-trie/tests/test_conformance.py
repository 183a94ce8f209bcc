"""The trie keeps the rules of routers."""

from __future__ import annotations

import pytest

from microkit_testkit.conformance.routers import RouterSuite
from microkit_trie import TRIE


@pytest.mark.guarantee("G3")
@pytest.mark.feature("F001-03")
@pytest.mark.feature("F001-04")
@pytest.mark.feature("F001-05")
@pytest.mark.feature("F001-10")
@pytest.mark.feature("F001-42")
class TestTrie(RouterSuite):
    spec = TRIE
