"""What runs on the host: it makes the containers equal to a release, proves the service, and tells. Standard library, Python 3.9."""
