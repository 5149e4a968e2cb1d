"""Cards: what a reader of an archive should know, generated from what is there."""
