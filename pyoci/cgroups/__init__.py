"""Control groups, version 2.

resources.py      PURE: `linux.resources` → the files to write
device_filter.py  PURE: `linux.resources.devices` → an eBPF program
fs.py             the effects: make a cgroup, limit it, freeze it, kill it, remove it
units.py          PURE: `linux.cgroupsPath`, files and annotations → a unit of systemd's and its properties
gvariant.py       PURE: a property's value out of an annotation
systemd.py        the effects where systemd makes the cgroup
"""
