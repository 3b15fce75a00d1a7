"""States and events for a projector, from a namespace's topics."""
