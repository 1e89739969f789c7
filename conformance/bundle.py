"""A bundle whose config a test changes: the least that every runtime takes, with our probe as the program."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from conformance import host
from conformance.output import parse_lines

PROGRAM = "/probe"
KINDS = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)  # of hooks, in order


def default_config() -> "dict[str, Any]":
    """A config that asks for nothing unusual, and grants whatever this host can grant."""
    capabilities = host.granted()
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": [PROGRAM, "report"],
            "env": ["PATH=/:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
            },
            {
                "destination": "/sys",
                "type": "sysfs",
                "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"],
            },
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        },
    }


class Bundle:
    """One bundle: `folder`, its `rootfs`, and the `config` to be written when a command uses it."""

    def __init__(self, folder: Path, probe: Path) -> None:
        self.folder = folder
        self.rootfs = folder / "rootfs"
        self.probe = folder / "probe"  # for hooks of the host
        for name in ("proc", "dev", "sys", "tmp", "etc", "bin"):
            (self.rootfs / name).mkdir(parents=True, exist_ok=True)
        for target in (self.rootfs / "probe", self.probe):
            shutil.copyfile(probe, target)
            target.chmod(0o755)
        self.config: Any = default_config()

    # --- shorthands for what tests change most

    @property
    def process(self) -> "dict[str, Any]":
        return self.config["process"]

    @property
    def linux(self) -> "dict[str, Any]":
        return self.config["linux"]

    def program(self, *words: object) -> None:
        """The program is the probe, with these operations."""
        self.process["args"] = [PROGRAM, *map(str, words)]

    def namespace(self, kind: str, path: object = None) -> None:
        """A namespace of this type: new, or the one at `path`; in place of the config's."""
        self.drop_namespace(kind)
        self.linux["namespaces"].append({"type": kind} if path is None else {"type": kind, "path": str(path)})

    def drop_namespace(self, kind: str) -> None:
        self.linux["namespaces"] = [entry for entry in self.linux["namespaces"] if entry["type"] != kind]

    def mount(
        self, destination: str, kind: str = "tmpfs", source: object = "tmpfs", *options: str, **more: Any
    ) -> None:
        """One more entry at the end of `mounts`."""
        entry = {"destination": destination, "type": kind, "source": str(source), "options": list(options), **more}
        self.config["mounts"].append(entry)

    def bind(self, source: object, destination: str, *options: str, **more: Any) -> None:
        """One more bind mount at the end of `mounts`; options are `bind` if they name neither kind."""
        words = list(options) if {"bind", "rbind"} & set(options) else ["bind", *options]
        self.mount(destination, "none", source, *words, **more)

    def drop_mount(self, destination: str) -> None:
        self.config["mounts"] = [entry for entry in self.config["mounts"] if entry["destination"] != destination]

    def user_namespace(self, base: int = 100000, size: int = 65536) -> None:
        """A new user namespace in which container root is `base` on the host, and owns the root filesystem."""
        self.namespace("user")
        for name in ("uidMappings", "gidMappings"):
            self.linux[name] = [{"containerID": 0, "hostID": base, "size": size}]
        for path in (self.rootfs, *self.rootfs.rglob("*")):
            os.chown(path, base, base, follow_symlinks=False)

    def set(self, pointer: str, value: object) -> None:
        """Put a value into the config: `/process/cwd`, `/linux/namespaces/-`. Objects on the way are made."""
        *path, last = pointer[1:].split("/")
        place = self.config
        for name in path:
            place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
        if not isinstance(place, list):
            place[last] = value
        elif last == "-":
            place.append(value)
        else:
            place[int(last)] = value

    def remove(self, pointer: str) -> None:
        """Take a property out of the config."""
        *path, last = pointer[1:].split("/")
        place = self.config
        for name in path:
            place = place[int(name)] if isinstance(place, list) else place[name]
        del place[last]

    def hook(
        self, kind: str, *words: object, log: "Path | None" = None, inside: "bool | None" = None, **more: Any
    ) -> None:
        """One more hook: the probe, which appends to `log` that it ran; then it does `words`.

        startContainer hooks are looked up in the root filesystem (`inside`), and their log too: `/hooks` is the
        directory of the log.
        """
        log = log or self.folder / "hooks.log"
        inside = kind == "startContainer" if inside is None else inside
        if inside:
            self.bind_log(log)
        path = PROGRAM if inside else str(self.probe)
        at = f"/hooks/{log.name}" if inside else str(log)
        args = ["probe", "hook", at, kind, *map(str, words)]
        self.config.setdefault("hooks", {}).setdefault(kind, []).append({"path": path, "args": args, **more})

    def shell_hook(self, kind: str, script: str, **more: Any) -> None:
        """One more hook, of the host: a shell with this script, which finds the state in $state."""
        hook = {
            "path": "/bin/sh",
            "args": ["sh", "-c", f"state=$(cat); {script}"],
            "env": [f"PATH={os.environ['PATH']}"],
            **more,
        }
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(hook)

    def program_in_log(self, *words: object) -> None:
        """The program appends to the hooks' log that it ran, as `program`; then it does `words`."""
        self.bind_log(self.folder / "hooks.log")
        self.program("hook", "/hooks/hooks.log", "program", *words)

    def bind_log(self, log: Path) -> None:
        """`/hooks` in the container is the directory of the log."""
        (self.rootfs / "hooks").mkdir(exist_ok=True)
        self.drop_mount("/hooks")
        self.bind(log.parent, "/hooks")

    def hooks_ran(self, log: "Path | None" = None) -> "list[dict[str, Any]]":
        """What the hooks wrote so far, in order."""
        log = log or self.folder / "hooks.log"
        if not log.exists():
            return []
        # a program that the suite does not wait for may be in the middle of its line
        whole, _, _ = log.read_text().rpartition("\n")
        return parse_lines(whole.splitlines(), "what hooks wrote")

    def write(self) -> None:
        """config.json. A test that wants other bytes writes them itself: config is then None."""
        if self.config is not None:
            (self.folder / "config.json").write_text(json.dumps(self.config))
