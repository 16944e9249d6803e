"""Run in the environment of `chart.schemas`: validates objects by Kubernetes' and the operator's schemas.

Standard input is JSON, a list of [version of Kubernetes, object]; standard output is a list of complaints,
each an empty text where the object is valid.
"""

from __future__ import annotations

import functools
import json
import sys
from typing import Any

import cloudcoil.models.prometheus_operator.v1 as operator
import jsonschema
from kubernetes_validate import utils

#: Fields that every object has, and that the models declare for the client's use.
_OF_ALL = {"apiVersion", "kind", "metadata", "spec"}


def main() -> None:
    """Answer one request."""
    # Each validation would read a megabyte of definitions again.
    utils.schema_contents = functools.cache(utils.schema_contents)
    utils.all_versions = functools.cache(utils.all_versions)
    json.dump([_complaint(version, one) for version, one in json.load(sys.stdin)], sys.stdout)


def _complaint(version: str, one: dict[str, Any]) -> str:
    try:
        if one["apiVersion"] == "monitoring.coreos.com/v1":
            error = jsonschema.exceptions.best_match(_operators(one["kind"]).iter_errors(one))
            if error is not None:
                raise error
        else:
            utils.validate(one, version, strict=True)
    except jsonschema.ValidationError as error:
        return f"{'.'.join(map(str, error.absolute_path))}: {error.message[:500]}"
    except utils.SchemaNotFoundError as error:
        return str(error.message)
    return ""


@functools.cache
def _operators(kind: str) -> Any:
    """Return a validator that takes no unknown field in the spec of a kind of the operator."""
    schema = getattr(operator, kind).model_json_schema(by_alias=True)
    for part in (schema, *schema["$defs"].values()):
        if part.get("type") == "object" and "properties" in part and "additionalProperties" not in part:
            part["additionalProperties"] = False
    schema["required"] = sorted(_OF_ALL)
    # Kubernetes itself defines the metadata.
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(schema)


if __name__ == "__main__":
    main()
