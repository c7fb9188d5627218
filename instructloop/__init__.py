"""The front door: the `instructloop` command and the demo; wires the parts together."""
