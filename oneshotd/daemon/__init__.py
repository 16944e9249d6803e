"""The daemon put together: options, sockets, start and stop, twistd's plugin."""
