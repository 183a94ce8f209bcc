"""Trie router for microkit."""
