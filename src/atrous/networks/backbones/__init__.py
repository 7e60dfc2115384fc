"""From an image to features: plain strided networks; `networks/stride.py` makes them atrous."""
