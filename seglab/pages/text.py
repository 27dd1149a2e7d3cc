"""Texts from anybody, made harmless for a terminal and for files in UTF-8."""

import unicodedata

UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that move the cursor, turn the direction of a line, end it, or can't be written."""


def printable(text: str, keep: str = "") -> str:
    r"""The text with `\x1b` and the like in the place of characters that a reader does not see, but those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in UNSEEN else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
