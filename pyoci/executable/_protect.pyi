def fill_standard_descriptors() -> None:
    """Open /dev/null in place of each standard descriptor (0 to 2) that is closed."""

def protect(argv: list[bytes]) -> None:
    """Execute the interpreter again, with `argv`, from a copy that no container can write to.

    Returns if the interpreter already runs from such a copy. Raises OSError with a complete message if every method
    failed.
    """
