"""Counting right and wrong pixels. No model and no image lives here; counts are pooled over the whole data set."""
