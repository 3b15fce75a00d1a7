"""Topics of other systems become commands, exactly once."""
