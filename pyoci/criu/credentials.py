"""The credentials of a thread, and whether a program that was started from config.json could have them. Pure."""

from pyoci.compiler.process import mask, of_config
from pyoci.config.constants import CAPABILITIES
from pyoci.config.text import printable
from pyoci.linux import CAP_SETGID, CAP_SETUID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pyoci.types import Config


class Credentials:
    """The credentials of a thread. Capabilities are masks.

    uids, gids    each of the four ids: real, effective, saved, of the filesystem. They are the container's.
    label         of the security module, "" without one
    socket_label  of SELinux for new sockets, "" for the default
    """

    __slots__ = (
        *("ambient", "bounding", "effective", "gids", "groups", "inheritable", "label", "no_new_privs", "permitted"),
        *("socket_label", "uids"),
    )

    def __init__(
        self,
        *,
        uids: "Collection[int]",
        gids: "Collection[int]",
        groups: "Collection[int]",
        bounding: int,
        permitted: int,
        effective: int,
        inheritable: int,
        ambient: int,
        no_new_privs: bool,
        label: str = "",
        socket_label: str = "",
    ) -> None:
        self.uids = uids
        self.gids = gids
        self.groups = groups
        self.bounding = bounding
        self.permitted = permitted
        self.effective = effective
        self.inheritable = inheritable
        self.ambient = ambient
        self.no_new_privs = no_new_privs
        self.label = label
        self.socket_label = socket_label


class Allowance:
    """What programs of the container may have, by config.json.

    Programs may have dropped privileges and changed their user. Without noNewPrivileges, the root filesystem may have
    programs with the set-user-ID bit or with file capabilities, so any program may have the whole bounding set.
    """

    __slots__ = ("_bounding", "_gainable", "_process", "_profile")

    def __init__(self, config: "Config", lsm_profile: str = "") -> None:
        self._process = of_config(config)
        self._profile = lsm_profile
        names = self._process.get("capabilities", {})
        self._bounding = mask(names.get("bounding", []))
        # execve(2) gives a program under no_new_privs nothing that its process lacked
        kept = mask(names.get("permitted", [])) if self._process.get("noNewPrivileges") else self._bounding
        self._gainable = self._bounding & kept

    def may(self, capability: int) -> bool:
        """Whether a program of the container could use this capability."""
        return bool(self._gainable >> capability & 1)

    def excess(self, has: Credentials) -> "Iterator[tuple[str, str]]":
        """Yield what these credentials have that no program may have: the JSON pointer and a text, `has the …`."""
        for kind, bits, allowed in (
            ("bounding", has.bounding, self._bounding),
            ("inheritable", has.inheritable, self._bounding),
            ("permitted", has.permitted, self._gainable),
            ("effective", has.effective, self._gainable),
            ("ambient", has.ambient, self._gainable),
        ):
            if bits & ~allowed:
                where = "/process/capabilities/bounding"
                yield where, f"has {capability_names(bits & ~allowed)} in its {kind} set"
                break
        if self._process.get("noNewPrivileges"):
            if not has.no_new_privs:
                yield "/process/noNewPrivileges", "can gain privileges"
            yield from self._foreign_ids(has)

    def _foreign_ids(self, has: Credentials) -> "Iterator[tuple[str, str]]":
        """Compare the ids of a thread that can't change them: not by execve(2), and not by a system call."""
        user = self._process.get("user", {})
        uid, gid = user.get("uid", 0), user.get("gid", 0)
        if not self.may(CAP_SETUID) and {*has.uids} != {uid}:
            yield "/process/user/uid", f"has the user ids {_listed(has.uids)}"
        if not self.may(CAP_SETGID):
            groups = {*has.gids, *has.groups} - {gid, *user.get("additionalGids", [])}
            if groups:
                yield "/process/user/gid", f"has the group ids {_listed(groups)}"

    def foreign_label(self, label: str, lsm: str) -> "Iterator[tuple[str, str]]":
        """Yield the pointer and a text if `label` of the security module `lsm` is not that of config.json.

        The option --lsm-profile replaces the label. An AppArmor profile may have child profiles for some programs.
        """
        for kind, key in (("apparmor", "apparmorProfile"), ("selinux", "selinuxLabel")):
            wanted = self._profile.partition(":")[2] if self._profile else self._process.get(key)
            if not wanted or (self._profile and not self._profile.startswith(f"{kind}:")):
                continue
            is_child = kind == "apparmor" and label.startswith(f"{wanted}//")
            if lsm != kind or not (label == wanted or is_child):
                yield f"/process/{key}", f"has the label {printable(label)}" if label else "has no label"


def _listed(ids: "Collection[int]") -> str:
    return ", ".join(map(str, sorted({*ids})))


def capability_names(bits: int) -> str:
    """Return the names of capabilities, for a message."""
    names = [name for name, number in CAPABILITIES.items() if bits >> number & 1]
    if bits >> len(CAPABILITIES):
        names.append("unknown capabilities")
    return ", ".join(names)


__all__ = ["Allowance", "Credentials"]
