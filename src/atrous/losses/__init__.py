"""Losses, from a network's cells to full-size labels."""
