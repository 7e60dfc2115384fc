"""From a picture to features: plain strided networks; `networks/stride.py` makes them atrous."""
