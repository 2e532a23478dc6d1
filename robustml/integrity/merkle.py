"""Merkle trees as RFC 6962 has them (section 2.1), of any number of leaves, in memory that grows by their logarithm."""

from __future__ import annotations

from hashlib import sha256


def leaf_hash(content: bytes) -> bytes:
    """The hash of a leaf: SHA-256 of a zero byte and its content."""
    return sha256(b"\0" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node: SHA-256 of a byte of one and the hashes below it."""
    return sha256(b"\1" + left + right).digest()


class Tree:
    """A tree that grows at its right; of n leaves it keeps the roots of its full subtrees, at most log2 n + 1."""

    def __init__(self) -> None:
        self._full: list[tuple[int, bytes]] = []  # sizes, all of them powers of two and falling, and roots

    def add(self, leaf: bytes) -> None:
        """Append a leaf, by its hash."""
        size = 1
        while self._full and self._full[-1][0] == size:
            leaf = node_hash(self._full.pop()[1], leaf)
            size *= 2
        self._full.append((size, leaf))

    def root(self) -> bytes:
        """The hash of the tree so far; of an empty one, SHA-256 of nothing."""
        if not self._full:
            return sha256().digest()
        root = self._full[-1][1]
        for _, left in reversed(self._full[:-1]):
            root = node_hash(left, root)
        return root
