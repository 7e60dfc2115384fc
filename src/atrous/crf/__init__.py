"""A fully connected random field over an image, and the filtering that it needs."""
