"""Words in messages: counts and articles as English forms them, and names of files as screens and shells take them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def describe_count(count: int, noun: str) -> str:
    """Return a count with its noun.

    Args:
        count: Number of things, 0 or more.
        noun: The singular, such as "mask", "hard class" or "batch"; its last word gets the plural.
    Returns:
        Such as "1 mask", "2,400 masks" or "0 hard classes".
    """
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y") and not noun.endswith(("ay", "ey", "oy", "uy")):
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith(('s', 'x', 'z', 'ch', 'sh')) else 's'}"


def add_article(noun: str) -> str:
    """Return a noun with its indefinite article: "an int", "a Model"."""
    return f"{'an' if noun[:1].lower() in 'aeio' else 'a'} {noun}"


def escape_unprintable(text: str) -> str:
    """Return a text with escapes, as in JSON, for what screens do not show and UTF-8 or YAML may not hold.

    Args:
        text: Any text. Names of files may hold control characters, and bytes that are no UTF-8.
    """
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def spell_command(words: Sequence[str]) -> str:
    """Return a command line in which each word is one argument for a shell, whatever it holds.

    Args:
        words: The command and its arguments.
    """
    return " ".join(shlex.quote(word) if word.isprintable() else _quote_bytes(word) for word in words)


def _quote_bytes(word: str) -> str:
    """Quote a word with unprintable characters as bash, ksh and zsh read it."""
    content = word.encode("utf-8", "surrogateescape")
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 /._-"
    return "$'" + "".join(chr(each) if each in plain else f"\\{each:03o}" for each in content) + "'"


def spell_path(path: str) -> str:
    """Return a path as an argument that no program takes for an option."""
    return f"./{path}" if path.startswith("-") else path
