"""Trie router for microkit."""

from .router import TRIE, TrieRouter

__all__ = ["TRIE", "TrieRouter"]
