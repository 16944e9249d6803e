"""Where the log, the cursors and the keys are kept: one interface, several back ends."""
