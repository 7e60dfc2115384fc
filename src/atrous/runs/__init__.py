"""A training as a whole: its data, folder and report; and a check of its data alone."""
