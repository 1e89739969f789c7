"""Runs a plan: the runtime's side of a container's birth."""
