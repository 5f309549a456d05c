"""artisync: a training cluster's artifacts as a local, read-only directory."""

__version__ = "0.1.0"
