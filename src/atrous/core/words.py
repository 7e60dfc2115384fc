"""Counts and articles in messages: the one place that knows how English forms them."""

from __future__ import annotations


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
