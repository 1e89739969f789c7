"""A small D-Bus client, for systemd."""
