"""What can run a network: one file for each, listed in `atrous.inference.BACKENDS`."""
