"""The Python API: `import pyoci` in a program of your own. docs/python.md is its manual.

`documents` works in the caller's process and leaves the host alone. `runtime` and `container` run the executable, so
that the caller's process stays as it is. The executable does not contain this package.
"""
