"""Experiments made of whole runs: the demonstration with its inference ladder."""
