"""The HTTP side: routes, limits, answers, and the tracking of acknowledgements."""
