"""The hooks of microkit-trie: one router, named ``trie``."""
