"""The status page: one HTML document with its style and script."""
