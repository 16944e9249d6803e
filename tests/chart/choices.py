"""The choices that the chart's values offer, and the values of a combination of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chart.combinations import Choices, Chosen
from chart.mount_rules import Outside

#: The versions of Kubernetes for which the chart is rendered: the newest that has schemas, one between, the
#: oldest that the chart takes.
VERSIONS = ("1.37", "1.31", "1.25")

#: Dimension -> choices, the chart's default first.
CHOICES: Choices = {
    "kubernetes": VERSIONS,
    "store": ("sqlite", "postgresql"),
    "replicas": ("1", "3"),
    "persistence": ("claim", "existing", "none"),
    "scrape": ("none", "annotations", "serviceMonitor", "podMonitor"),
    "scraper": ("pod", "fixed", "address", "no events"),
    "locks": ("none", "access", "users", "tls", "tls secret", "client certificates"),
    "hooks": ("no", "yes"),
    "pings": ("no", "yes"),
    "receivers": ("no", "yes"),
    "udp": ("yes", "no"),
    "service": ("ClusterIP", "NodePort", "LoadBalancer"),
    "rules": ("no", "yes"),
    "dashboard": ("no", "yes"),
    "netpol": ("no", "own namespace", "namespaces", "everything"),
    "ingress": ("no", "yes", "tls"),
    "budget": ("yes", "no"),
    "test event": ("no", "yes"),
    "names": ("short", "long", "override", "digit"),
    "rest": ("no", "yes"),
}

#: Dimensions of which every combination is rendered. Of all dimensions, every pair of choices is rendered.
WHOLE = ("store", "persistence", "scrape", "locks")

#: Mappings whose keys the user chooses.
FREE = ("labels", "resources", "podSecurityContext", "securityContext")

#: Values that no combination changes: they are passed on as they are, or have a test in test_values.py.
ALONE = {
    *("server.digest", "store.addressKey", "store.passwordKey", "store.leaseMargin"),
    *("persistence.accessModes", "webConfig.key", "access.key", "pings.key", "receivers.key"),
    *("service.nodePort", "service.loadBalancerClass", "ingress.paths"),
    *(
        "podDisruptionBudget.maxUnavailable",
        "testEvent.schedule",
        "updateStrategy",
        "netpol.ingress.podLabel",
    ),
    *("probes.startup", "probes.readiness", "podSecurityContext", "securityContext", "dashboard.labels"),
}

#: The secrets that the user has made, with their keys, and the claim.
OUTSIDE: Outside = {
    ("Secret", "database"): frozenset(("address", "password", "ca.crt")),
    ("Secret", "web"): frozenset(("web.yml", "client-ca.crt")),
    ("Secret", "certificate"): frozenset(("tls.crt", "tls.key", "ca.crt")),
    ("Secret", "probe"): frozenset(("tls.crt", "tls.key", "ca.crt")),
    ("Secret", "access"): frozenset(("access.toml",)),
    ("Secret", "hooks"): frozenset(("ci.toml",)),
    ("Secret", "pings"): frozenset(("pings.toml",)),
    ("Secret", "receivers"): frozenset(("receivers.toml",)),
    ("Secret", "emit"): frozenset(("emit.toml", "ca.crt")),
    ("Secret", "registry"): frozenset((".dockerconfigjson",)),
    ("PersistentVolumeClaim", "old-data"): frozenset(),
    ("ServiceAccount", "events"): frozenset(),
}

#: The release's name: the longest that helm takes has 53 characters.
RELEASES = {
    "short": "events",
    "long": "a-release-whose-name-has-as-many-characters-as-helm53",
    "override": "events",
    "digit": "7-events",
}


def release(chosen: Chosen) -> str:
    """Return the release's name."""
    return RELEASES[chosen["names"]]


def values(chosen: Chosen) -> dict[str, Any]:
    """Return the values of a combination; a default is left out."""
    made: dict[str, Any] = {}
    postgresql = chosen["store"] == "postgresql"
    if postgresql:
        _put(made, store={"kind": "postgresql", "secretName": "database"})
        _put(made, replicaCount=int(chosen["replicas"]))
    _put(made, **_PERSISTENCE[chosen["persistence"]])
    _put(made, scrape={"by": chosen["scrape"], **_SCRAPER[chosen["scraper"]]})
    _put(made, **_LOCKS[chosen["locks"]])
    if chosen["locks"] not in ("none", "access"):
        _put(made, testEvent={"secretName": "emit"})
    for name in ("hooks", "pings", "receivers"):
        if chosen[name] == "yes":
            _put(made, **{name: {"secretName": name}})
    if chosen["udp"] == "no":
        _put(made, server={"udp": False})
    _put(made, service={"type": chosen["service"]})
    _put(made, prometheusRule={"enabled": chosen["rules"] == "yes"})
    _put(made, dashboard={"enabled": chosen["dashboard"] == "yes"})
    _put(made, netpol=_NETPOL[chosen["netpol"]])
    _put(made, ingress=_INGRESS[chosen["ingress"]])
    _put(made, podDisruptionBudget={"enabled": chosen["budget"] == "yes"})
    _put(made, testEvent={"enabled": chosen["test event"] == "yes"})
    if chosen["names"] == "override":
        _put(made, serviceName="o" + 51 * "n")
    if chosen["rest"] == "yes":
        _put(made, **_REST)
        if postgresql:
            _put(made, topologySpreadConstraints=_SPREAD)
    return made


def _put(into: dict[str, Any], **more: Any) -> None:
    for name, value in more.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _put(into[name], **value)
        else:
            into[name] = dict(value) if isinstance(value, Mapping) else value


_PERSISTENCE: Mapping[str, Any] = {
    "claim": {},
    "existing": {"persistence": {"existingClaim": "old-data"}},
    "none": {"persistence": {"enabled": False}},
}

_SCRAPER: Mapping[str, Any] = {
    "pod": {},
    "fixed": {"scraper": "prometheus-a"},
    "address": {"scraper": ""},
    "no events": {"events": False},
}

_WEB = {"secretName": "web"}
_TLS = {**_WEB, "tls": True}
_LOCKS: Mapping[str, Any] = {
    "none": {},
    "access": {"access": {"secretName": "access"}},
    "users": {"webConfig": _WEB, "access": {"secretName": "access"}},
    "tls": {"webConfig": _TLS},
    "tls secret": {"webConfig": {**_TLS, "tlsSecretName": "certificate"}},
    "client certificates": {
        "webConfig": {
            **_TLS,
            "tlsSecretName": "certificate",
            "clientCertificates": True,
            "probeSecretName": "probe",
        },
        "access": {"secretName": "access"},
    },
}

_NETPOL: Mapping[str, Any] = {
    "no": {},
    "own namespace": {"generate": True},
    "namespaces": {
        "generate": True,
        "ingress": {"ownNamespace": False, "allowedNamespaceMatchLabels": ["monitoring", "apps"]},
    },
    "everything": {
        "generate": True,
        "ingress": {
            "allowedNamespaceMatchLabels": ["monitoring"],
            "namespaceLabel": "team",
            "allowedPodMatchLabels": ["backup"],
            "from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}],
        },
    },
}

_INGRESS: Mapping[str, Any] = {
    "no": {},
    "yes": {"enabled": True, "host": "events.example.org"},
    "tls": {
        "enabled": True,
        "host": "events.example.org",
        "className": "haproxy",
        "annotations": {"example.org/timeout": "60s"},
        "tls": [{"hosts": ["events.example.org"], "secretName": "events-tls"}],
    },
}

_SPREAD = [
    {
        "maxSkew": 1,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "oneshotd"}},
    }
]

#: Everything that has no choices of its own.
_REST: Mapping[str, Any] = {
    "extraLabels": {"team": "events", "number": "1"},
    "server": {
        "image": "registry.example.org/oneshotd",
        "tag": "0.1.0-1",
        "pullPolicy": "Always",
        "logLevel": "debug",
        "port": 9190,
        "useExplicitTimestamps": True,
        "options": {
            "hold": "2h",
            "max-events": 2000000,
            "access-log": True,
            "allow-emit": ["10.0.0.0/8", "192.0.2.0/24"],
            "max-bytes": "2G",
        },
        "env": [{"name": "TZ", "value": "UTC"}],
        "resources": {"requests": {"cpu": "1", "memory": "256Mi"}},
    },
    "imagePullSecrets": [{"name": "registry"}],
    "service": {
        "port": 80,
        "annotations": {"example.org/internal": "true"},
        "externalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": ["192.0.2.0/24"],
    },
    "persistence": {"size": "20Gi", "storageClass": "fast", "annotations": {"example.org/backup": "yes"}},
    "scrape": {
        "interval": "30s",
        "scrapeTimeout": "20s",
        "params": {"timestamps": ["event"]},
        "labels": {"release": "kube-prometheus-stack"},
        "namespace": "elsewhere",
        "endpoint": {"honorTimestamps": True},
        "spec": {"sampleLimit": 5000},
    },
    "prometheusRule": {"labels": {"release": "kube-prometheus-stack"}, "namespace": "elsewhere"},
    "dashboard": {"annotations": {"grafana_folder": "Events"}, "namespace": "elsewhere"},
    "serviceAccountName": "events",
    "podLabels": {"example.org/zone": "a"},
    "podAnnotations": {"example.org/note": "yes"},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "events", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]}
                ]
            }
        }
    },
    "probes": {"liveness": {"periodSeconds": 30}},
    "terminationGracePeriodSeconds": 90,
    "preStopSeconds": 10,
    "extraVolumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "10Mi"}}],
    "extraVolumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
}
