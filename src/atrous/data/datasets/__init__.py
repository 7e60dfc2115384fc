"""The registered data sets, one file each, with a function that builds its splits."""
