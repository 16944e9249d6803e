"""An upgrade loses nothing without a word: what helm's patch cannot change is refused.

helm 3 changes an object by a strategic merge patch, which knows an entry of a list by one field: ports by
their number, whatever their protocol.
"""

from __future__ import annotations

from typing import Any

import pytest

from chart.cluster import cluster
from chart.helm import Helm, Refused
from chart.pods import pods

#: Values before and after, and whether the upgrade can be made.
CHANGES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({}, {}, True),
    ({}, {"server": {"logLevel": "debug"}}, True),
    ({}, {"service": {"type": "NodePort"}}, True),
    ({"service": {"type": "NodePort"}}, {"service": {"type": "ClusterIP"}}, True),
    ({}, {"service": {"type": "NodePort", "nodePort": 30090}}, False),
    ({}, {"service": {"port": 80}}, False),
    ({}, {"server": {"port": 9190}}, False),
    ({}, {"server": {"udp": False}}, False),
    ({"server": {"udp": False}}, {}, False),
    ({"server": {"udp": False}}, {"server": {"udp": False}, "service": {"port": 80}}, True),
    ({"server": {"udp": False}}, {"server": {"udp": False, "port": 9190}}, True),
    ({}, {"store": {"kind": "postgresql", "secretName": "database"}}, True),
    ({}, {"serviceName": "other"}, True),
]


@pytest.mark.parametrize(("before", "after", "possible"), CHANGES, ids=str)
def test_ports_that_a_patch_would_lose_are_refused(
    before: dict[str, Any], after: dict[str, Any], possible: bool, helm: Helm
) -> None:
    """Without the refusal the upgrade succeeds, and datagrams go nowhere."""
    service = helm.render(before).one("Service")
    if service["spec"]["type"] != "ClusterIP":
        for number, port in enumerate(service["spec"]["ports"], 30001):
            port.setdefault("nodePort", number)  # chosen by the cluster
    with cluster((service,)) as address:
        more = ("--dry-run=server", "--is-upgrade", "--kube-apiserver", address)
        if possible:
            assert helm.render(after, more=more).of("Service")
        else:
            with pytest.raises(
                Refused, match="kubectl --namespace monitoring delete service events-oneshotd"
            ):
                helm.render(after, more=more)


@pytest.mark.parametrize("values", [{}, {"store": {"kind": "postgresql", "secretName": "database"}}], ids=str)
def test_no_container_has_two_ports_of_one_number(values: dict[str, Any], helm: Helm) -> None:
    """A patch that changes the number would keep one of the two."""
    for pod in pods(helm.render(values).objects):
        numbers = [port["containerPort"] for port in pod.ports]
        assert len(numbers) == len(set(numbers))


def test_a_pod_that_never_gets_ready_is_replaced(helm: Helm) -> None:
    """After an upgrade with a wrong option, the next upgrade would wait for ever for the broken pod."""
    assert helm.render({}).one("StatefulSet")["spec"]["podManagementPolicy"] == "Parallel"
