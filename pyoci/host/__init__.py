"""What the runtime does to the host outside of cgroups: files, sockets, processes, devices, hooks."""
