"""Measuring: features, as stored or as decoded, through the back half."""
