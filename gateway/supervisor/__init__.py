"""The process that starts the workers, and makes them one gateway. It carries no client's bytes."""
