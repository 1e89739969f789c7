"""JSON pointers (RFC 6901): the places of values in a document, such as `/mounts/3/options/0`."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def escape(token: str) -> str:
    """`token`, the name of a member, as it is written in a pointer: `~1` for `/` and `~0` for `~`."""
    if "~" in token or "/" in token:
        return token.replace("~", "~0").replace("/", "~1")
    return token


def join(tokens: "Iterable[str]") -> str:
    """The pointer to the member that `tokens` lead to, from the top of the document."""
    return "".join(["/" + escape(token) for token in tokens])


def split(pointer: str) -> list[str]:
    """The tokens of `pointer`, from the top of the document, unescaped."""
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
