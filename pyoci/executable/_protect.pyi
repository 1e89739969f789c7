def fill_standard_descriptors() -> None:
    """Open /dev/null for each of the descriptors 0 to 2 that is closed."""

def protect(argv: list[bytes]) -> None:
    """Execute the interpreter again as `argv` from a copy that no container can write; return if it is one already.

    Raises OSError with the whole message when every method failed.
    """
