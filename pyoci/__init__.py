"""pyoci: a low-level OCI container runtime. Start reading at docs/design.md."""

__version__ = "0.1.0"
