"""The client side: ports, and what speaks on the connections they accept."""
