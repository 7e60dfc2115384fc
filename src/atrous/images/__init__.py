"""Files or bytes <-> arrays. Knows no classes and no network."""
