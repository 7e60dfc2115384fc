"""From arrays to labels: windows, scales, the likeliest class."""
