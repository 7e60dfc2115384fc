"""A training as a whole: its data, folder and report."""
