"""Commands and connections that reach another worker than the one that owns their session."""
