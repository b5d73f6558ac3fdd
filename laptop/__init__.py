"""The imaging service on one machine: the same files as on AWS, with local certificates and its own PostgreSQL."""
