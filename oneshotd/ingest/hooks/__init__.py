"""The hooks of a daemon: presets, and mappings from files."""
