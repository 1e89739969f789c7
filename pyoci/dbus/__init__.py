"""A small D-Bus client, which talks to systemd."""
