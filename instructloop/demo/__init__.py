"""The demonstration: a real model improved by simulated labelers, measured so a sceptic agrees."""
