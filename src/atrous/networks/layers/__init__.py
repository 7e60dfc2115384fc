"""Layers that heads and backbones share."""
