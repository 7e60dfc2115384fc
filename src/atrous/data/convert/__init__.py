"""Formats of annotations: one file a format, from what labelling tools export to images and masks, and back."""
