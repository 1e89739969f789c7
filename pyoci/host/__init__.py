"""Effects on the host, each alone."""
