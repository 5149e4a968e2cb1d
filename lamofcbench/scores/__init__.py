"""Scores of what a model answers, one metric a file."""
