"""Tests of the Helm chart, etc/helm/oneshotd: what it renders, and that it runs. `make chart-test`."""
