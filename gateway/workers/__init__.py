"""Worker processes, which serve the clients."""
