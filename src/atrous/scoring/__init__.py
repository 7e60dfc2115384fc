"""Scoring a labeller on a data set: the one evaluation path, for training's validation and for `atrous eval` alike."""
