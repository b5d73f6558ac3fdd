"""What people do with a stack that is deployed, from their own machine."""
