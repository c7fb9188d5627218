"""Engines: whatever turns prompt tokens into sampled tokens under a named adapter."""
