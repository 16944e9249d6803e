"""Events of all sources on their way into the store."""
