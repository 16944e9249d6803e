"""The bill of materials of the image, in SPDX 2.3, of what dpkg says.

https://spdx.github.io/spdx-spec/v2.3/
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from image.packages import Package

#: In the image, and beside its archive.
PATH = "usr/share/sbom/oneshotd.spdx.json"


def moment(epoch: int) -> str:
    """Return Unix seconds as SPDX and OCI write them (RFC 3339)."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def bill(packages: Sequence[Package], *, version: str, release: str, epoch: int) -> bytes:
    """Return the document.

    :param version: of oneshotd.
    :param release: of Debian, as "13".
    """
    rows = [_row(package, release) for package in packages]
    # The name space has to be another one for another content; a random one would not be reproducible.
    content = json.dumps(rows, sort_keys=True)
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"oneshotd-{version}",
        "documentNamespace": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}",
        "creationInfo": {"created": moment(epoch), "creators": ["Tool: make-image"]},
        "packages": rows,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": row["SPDXID"],
            }
            for row in rows
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def _row(package: Package, release: str) -> dict[str, Any]:
    own = package.name == "oneshotd"
    name, version = quote(package.name, safe=""), quote(package.version, safe="")
    # https://github.com/package-url/purl-spec: an epoch's colon is written as it is by scanners.
    where = f"pkg:deb/debian/{name}@{version}?arch={package.architecture}&distro=debian-{release}"
    return {
        "SPDXID": f"SPDXRef-{re.sub('[^A-Za-z0-9.-]', '-', package.name)}",
        "name": package.name,
        "versionInfo": package.version,
        "supplier": f"Organization: {'the oneshotd developers' if own else 'Debian'}",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "sourceInfo": f"built from: {package.source} {package.source_version}",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "MIT" if own else "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "summary": package.fields.get("Description", "").partition("\n")[0],
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": where,
            }
        ],
    }
