"""Merkle trees against the roots that Certificate Transparency's own tests have, and against a tree written out."""

from __future__ import annotations

from hashlib import sha256

from robustml.integrity.merkle import Tree, leaf_hash, node_hash

# google/certificate-transparency, merkletree tests: eight leaves, and the root of the first n of them.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_roots_are_those_of_certificate_transparency() -> None:
    tree = Tree()
    roots = [tree.root().hex()]
    for leaf in LEAVES:
        tree.add(leaf_hash(bytes.fromhex(leaf)))
        roots.append(tree.root().hex())
    assert roots == ROOTS


def test_a_tree_of_seven_is_the_one_that_rfc_6962_draws() -> None:
    """Section 2.1.3: hash = H(1, k = H(1, g, h), l = H(1, i, j)) with j = d6 alone, by hashlib and nothing else."""

    def leaf(letter: bytes) -> bytes:
        return sha256(b"\0" + letter).digest()

    def node(left: bytes, right: bytes) -> bytes:
        return sha256(b"\1" + left + right).digest()

    a, b, c, d, e, f, j = map(leaf, (b"d0", b"d1", b"d2", b"d3", b"d4", b"d5", b"d6"))
    expected = node(node(node(a, b), node(c, d)), node(node(e, f), j))
    tree = Tree()
    for one in (b"d0", b"d1", b"d2", b"d3", b"d4", b"d5", b"d6"):
        tree.add(leaf_hash(one))
    assert tree.root() == expected
    assert (leaf_hash(b"d0"), node_hash(a, b)) == (a, node(a, b))


def test_what_is_kept_grows_by_the_logarithm() -> None:
    tree = Tree()
    for number in range(10_000):
        tree.add(number.to_bytes(32, "big"))
    assert len(tree._full) <= 14
