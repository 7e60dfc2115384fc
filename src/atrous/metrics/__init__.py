"""Scores from counted pixels, without models or images. Counts are pooled over the whole data set."""
