"""The shape of an output: its words, with numbers, times and paths masked, held against what was committed."""

from __future__ import annotations

import re
from pathlib import Path

SHAPES = Path(__file__).parent / "shapes"
_MASKS = (
    (r"(?<!\S)/\S+|\boutputs/\S+", "<path>"),
    (r"\d{4}-\d\d-\d\d([ _T][\d:.-]+)?", "<time>"),
    (r"\d+:\d\d(:\d\d)?", "<time>"),
    (r"\b(?=\w*[a-f])(?=\w*\d)[0-9a-f]{7,64}\b", "<digest>"),
    (r"[-+±]?\d[\d.,]*", "#"),
    (r"# ?(%|s|ms|min|h)(?!\w)", "#"),
    (r"([─━═—-])\1+", r"\1"),
    (r"[ \t]+", " "),
)


def shape(lines: list[str]) -> list[str]:
    """The lines, masked; of lines, or pairs of them, that follow each other and look alike, the first."""
    masked: list[str] = []
    for line in lines:
        for pattern, mask in _MASKS:
            line = re.sub(pattern, mask, line)
        if masked[-1:] != [line.strip()]:
            masked.append(line.strip())
        if masked[-2:] == masked[-4:-2]:
            del masked[-2:]
    return masked


def compare(name: str, lines: list[str]) -> None:
    """Hold lines against shapes/<name>.txt, word by word, wherever they break; a file that is not there is written."""
    path, found = SHAPES / f"{name}.txt", shape(lines)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(found) + "\n")
        raise AssertionError(f"{path} is new: look at it, commit it, or mend what it shows")
    expected = path.read_text().splitlines()
    if " ".join(expected).split() != " ".join(found).split():
        assert found == expected, f"the output of {name} has another shape; delete {path} if it is meant"
