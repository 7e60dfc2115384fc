"""The tree of settings, where its values come from, and the rules between them. Never torch."""
