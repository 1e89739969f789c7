"""The bill of materials of the executable (SBOM), in CycloneDX's format, for tools/release."""

import datetime as dt
import hashlib
import platform
import re
import uuid
from typing import Any

Package = dict[str, str]

# The licences of what Debian's packages contribute to the executable, by a pattern for the source package.
LICENCES = {
    r"python3\.\d+": "PSF-2.0",
    "glibc": "LGPL-2.1-or-later",
    r"gcc-\d+(-cross)?|gcc-defaults": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "zlib": "Zlib",
    "expat": "MIT",
    "openssl": "Apache-2.0",
    "binutils": "GPL-3.0-or-later",
    "cython|Cython": "Apache-2.0",
    "setuptools": "MIT",
}


def write(version: str, executable: bytes, packages: dict[str, list[Package]], time: int) -> str:
    """Return the document.

    It lists what the executable contains (`scope: required`) and what built it (`scope: excluded`). The number of the
    document comes from the executable, so that two builds of the same bytes have the same document.
    """
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from cyclonedx.model.license import LicenseExpression
    from cyclonedx.output.json import JsonV1Dot6

    digest = hashlib.sha256(executable).hexdigest()
    whole = Component(
        type=ComponentType.APPLICATION,
        name="pyoci",
        version=version,
        bom_ref=f"pyoci@{version}",
        licenses=[LicenseExpression("Apache-2.0")],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        purl=_url("generic", "", "pyoci", version, arch=platform.machine()),
    )
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, digest),
        metadata=BomMetaData(component=whole, timestamp=dt.datetime.fromtimestamp(time, dt.UTC)),
    )
    contained = []
    for kind, scope in (("linked", ComponentScope.REQUIRED), ("tools", ComponentScope.EXCLUDED)):
        for package in packages[kind]:
            url = url_of(package)
            component = Component(
                type=ComponentType.LIBRARY if kind == "linked" else ComponentType.APPLICATION,
                name=package["name"],
                version=package["version"],
                bom_ref=f"{kind}:{url}",
                purl=url,
                scope=scope,
                licenses=[LicenseExpression(text) for text in licences(package)],
            )
            bom.components.add(component)
            if kind == "linked":
                contained.append(component)
    bom.register_dependency(whole, contained)
    return str(JsonV1Dot6(bom).output_as_string(indent=2)) + "\n"


def licences(package: Package) -> list[str]:
    """The licence of a package, as an SPDX expression; none if it is not in the table."""
    source = package.get("source", package["name"])
    return [text for pattern, text in LICENCES.items() if re.fullmatch(pattern, source)]


def url_of(package: Package) -> Any:
    """The package URL."""
    if package["type"] == "pypi":
        return _url("pypi", "", package["name"].lower(), package["version"])
    qualifiers = {"arch": package["architecture"]}
    return _url("deb", "debian", package["name"], package["version"], **qualifiers)


def _url(kind: str, namespace: str, name: str, version: str, **qualifiers: str) -> Any:
    from packageurl import PackageURL

    return PackageURL(kind, namespace or None, name, version, qualifiers or None)
