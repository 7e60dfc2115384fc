"""A network as a graph and a graph as a file, without running it."""
