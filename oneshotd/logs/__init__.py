"""The log level, and throttled log lines."""
