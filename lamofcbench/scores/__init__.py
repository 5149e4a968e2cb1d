"""Scores: what a model's answers are worth, one metric a file. Pure functions over arrays."""
