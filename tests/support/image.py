"""An OCI image made of a directory: engines import it, and nothing is pulled."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

OCI = "application/vnd.oci.image"
# Go's names where they are not the kernel's: what images are named after
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "loongarch64": "loong64"}


def archive(path: Path, root: Path, name: str, **config: Any) -> None:
    """Write an OCI archive of one image.

    Args:
        path: Of the archive.
        root: The directory that becomes its only layer.
        name: With its tag.
        config: More of the image's `config`, such as `Entrypoint`.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(root, ".")
    digest = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    with tarfile.open(path, "w") as tar:

        def add(file: str, content: bytes) -> None:
            member = tarfile.TarInfo(file)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        def blob(kind: str, content: bytes) -> dict[str, Any]:
            checksum = hashlib.sha256(content).hexdigest()
            add(f"blobs/sha256/{checksum}", content)
            return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{checksum}", "size": len(content)}

        machine = os.uname().machine
        image = {
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], **config},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": blob("config.v1+json", json.dumps(image).encode()),
            "layers": [blob("layer.v1.tar", layer.getvalue())],
        }
        names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
        entry = {**blob("manifest.v1+json", json.dumps(manifest).encode()), "annotations": names}
        add("index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        add("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
