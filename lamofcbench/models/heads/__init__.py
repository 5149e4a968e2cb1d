"""What answers from a backbone's blocks: one kind of head a file."""
