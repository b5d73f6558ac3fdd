"""`make import` and `make export`: an archive's files into a service, and every object of a service out to files."""
