"""Log level and throttled log lines."""
