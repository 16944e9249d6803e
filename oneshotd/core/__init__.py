"""The pure core: records and rules, without clock, socket, reactor or environment."""
