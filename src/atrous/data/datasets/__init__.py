"""One file a data set; each has a function that builds its splits."""
