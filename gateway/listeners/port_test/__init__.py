"""The port test on the ports for clients: its requests, and its page."""
