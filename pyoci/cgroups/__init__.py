"""Control groups, version 2.

resources.py      PURE: `linux.resources` → the files to write
device_filter.py  PURE: `linux.resources.devices` → an eBPF program
fs.py             the effects: make a cgroup, limit it, freeze it, kill it, remove it
"""
