"""A run as one page to read: drawn from the saved records only, never from a model."""
