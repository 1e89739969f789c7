"""A bundle for tests, whose config is easy to change."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from pyoci.client.types import StrPath

if TYPE_CHECKING:
    from pyoci.types import Config, Hook, Linux, NamespaceType, Process

HookKind: TypeAlias = Literal["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]


class Bundle:
    """A directory with a root filesystem and a config.

    `config` is a dict to change at will; `write` writes config.json. The methods change it and return the bundle.
    """

    def __init__(self, directory: Path, rootfs: Path, config: "Config") -> None:
        self.directory = directory
        self.rootfs = rootfs
        self.config = config

    def __fspath__(self) -> str:
        """The directory, so that a bundle can stand for its path. Writes config.json."""
        self.write()
        return str(self.directory)

    @property
    def process(self) -> "Process":
        """`process` of the config."""
        return self.config["process"]

    @process.setter
    def process(self, value: "Process") -> None:
        self.config["process"] = value

    @property
    def linux(self) -> "Linux":
        """`linux` of the config."""
        return self.config["linux"]

    @linux.setter
    def linux(self, value: "Linux") -> None:
        self.config["linux"] = value

    def program(self, *args: object) -> Self:
        """Set the container's program and its arguments."""
        self.process["args"] = [str(arg) for arg in args]
        return self

    def shell(self, script: str) -> Self:
        """Let the container's program be a shell with this script."""
        return self.program("/bin/sh", "-c", script)

    def mount(self, destination: str, type: str = "tmpfs", *options: str, source: StrPath = "") -> Self:
        """Add an entry to `mounts`, in place of an earlier one with this destination."""
        self.without_mount(destination)
        self.config["mounts"].append(
            {"destination": destination, "type": type, "source": os.fspath(source) or type, "options": list(options)}
        )
        return self

    def bind(self, source: StrPath, destination: str, *options: str) -> Self:
        """Add a bind mount."""
        return self.mount(destination, "bind", "rbind", *options, source=source)

    def without_mount(self, *destinations: str) -> Self:
        """Remove entries of `mounts`."""
        self.config["mounts"] = [entry for entry in self.config["mounts"] if entry["destination"] not in destinations]
        return self

    def namespace(self, type: "NamespaceType", path: StrPath = "") -> Self:
        """Use a new namespace of this type or the one at `path`, whatever the config has now."""
        self.linux["namespaces"] = [entry for entry in self.linux["namespaces"] if entry["type"] != type]
        self.linux["namespaces"].append({"type": type, "path": os.fspath(path)} if path else {"type": type})
        return self

    def in_user_namespace(self, host: int = 100000, size: int = 65536) -> Self:
        """Use a new user namespace, in which root is the uid `host`, and give that the root filesystem. Needs root."""
        self.namespace("user")
        self.linux["uidMappings"] = self.linux["gidMappings"] = [{"containerID": 0, "hostID": host, "size": size}]
        for path in (self.rootfs, *self.rootfs.rglob("*")):
            os.chown(path, host, host, follow_symlinks=False)
        return self

    def hook(
        self, kind: HookKind, script: str, *, path: str = "/bin/sh", env: Sequence[str] = (), timeout: int = 0
    ) -> Self:
        """Add a hook of this kind: a shell with a script, its environment, and the seconds that it may take."""
        entry: Hook = {"path": path, "args": ["sh", "-c", script]}
        if env:
            entry["env"] = list(env)
        if timeout:
            entry["timeout"] = timeout
        self.config.setdefault("hooks", {}).setdefault(kind, []).append(entry)
        return self

    def write(self) -> None:
        """Write config.json."""
        (self.directory / "config.json").write_text(json.dumps(self.config))
