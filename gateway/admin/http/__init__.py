"""The admin server's HTTP: connections, access control, requests and responses."""
