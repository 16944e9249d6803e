"""The daemon: options, sockets, start and stop, and the options of the twistd plugin."""
