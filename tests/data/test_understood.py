"""What was understood of a set: in lines for people, and as the cache keeps it."""

from __future__ import annotations

from robustml.data.understood import Column, Skipped, Understood, listed, summary_lines

SAID = Understood(
    {"separator": "';' (found)"},
    (Column("a", -1.5, 4, 3, 1), Column("b", 0, 9, 2)),
    {"Unnamed: 0": "without a name: an index"},
    (Skipped("of the unknown kind .heic", 5, ("x/0.heic", "x/1.heic", "y/0.heic")),),
    ("constant, hence 0: b",),
)


def test_it_survives_json():
    assert Understood.from_json(SAID.to_json()) == SAID
    assert Understood.from_json(Understood().to_json()) == Understood()


def test_in_lines():
    odd = Understood(skipped=(Skipped("of the unknown kind .x", 1, ("a\x1b[31m\n.x", "caf\xe9\udcff.x")),))
    assert odd.lines() == ["skipped: 1 files, of the unknown kind .x (a\\x1b[31m\\n.x, caf\xe9\\udcff.x)"]
    assert listed("abcde", 2) == "a, b and 3 more"
    assert SAID.lines() == [
        "2 columns: a, b; 1 values missing; from -1.5 to 9, scaled to [0, 1]",
        "ignored: Unnamed: 0 (without a name: an index)",
        "separator ';' (found)",
        "skipped: 5 files, of the unknown kind .heic (x/0.heic, x/1.heic, y/0.heic)",
        "note: constant, hence 0: b",
    ]
    other = SAID.noting("clipped")
    assert summary_lines({"train": SAID, "test": other}) == [*SAID.lines(), "test: note: clipped"]
