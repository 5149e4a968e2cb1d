"""Scripts that train the miniatures, each from a seed."""
