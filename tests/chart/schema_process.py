"""Run in the environment of `chart.schemas`: validates objects by Kubernetes' and the operator's schemas.

``write FILE`` writes the operator's schemas into a file, which takes seconds. ``validate FILE`` reads JSON
from standard input, a list of [version of Kubernetes, object], and writes a list of complaints, each an empty
text where the object is valid.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
from kubernetes_validate import utils

KINDS = ("ServiceMonitor", "PodMonitor", "PrometheusRule")


def write(file: Path) -> None:
    """Write the schemas of the operator's kinds, none of which takes an unknown field."""
    import cloudcoil.models.prometheus_operator.v1 as operator  # takes four seconds

    made = {}
    for kind in KINDS:
        schema = getattr(operator, kind).model_json_schema(by_alias=True)
        for part in (schema, *schema["$defs"].values()):
            if part.get("type") == "object" and "properties" in part and "additionalProperties" not in part:
                part["additionalProperties"] = False
        schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
        # Kubernetes itself defines the metadata.
        schema["properties"]["metadata"] = {"type": "object"}
        made[kind] = schema
    file.write_text(json.dumps(made), encoding="utf-8")


def validate(file: Path) -> None:
    """Answer one request."""
    schemas = json.loads(file.read_text(encoding="utf-8"))
    operators = {kind: jsonschema.Draft202012Validator(schema) for kind, schema in schemas.items()}
    # Each validation would read a megabyte of definitions again.
    utils.schema_contents = functools.cache(utils.schema_contents)
    utils.all_versions = functools.cache(utils.all_versions)
    json.dump([_complaint(version, one, operators) for version, one in json.load(sys.stdin)], sys.stdout)


def _complaint(version: str, one: dict[str, Any], operators: dict[str, Any]) -> str:
    try:
        if one["apiVersion"] == "monitoring.coreos.com/v1":
            error = jsonschema.exceptions.best_match(operators[one["kind"]].iter_errors(one))
            if error is not None:
                raise error
        else:
            utils.validate(one, version, strict=True)
    except jsonschema.ValidationError as error:
        return f"{'.'.join(map(str, error.absolute_path))}: {error.message[:500]}"
    except utils.SchemaNotFoundError as error:
        return str(error.message)
    return ""


if __name__ == "__main__":
    {"write": write, "validate": validate}[sys.argv[1]](Path(sys.argv[2]))
