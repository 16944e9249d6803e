"""HTTP connections and the tracking of their acknowledgements."""
