"""Import of other projects' human feedback through the same events that our own service writes."""
