"""Networks as graphs and graphs as files, without running them."""
