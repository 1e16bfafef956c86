"""Scores over HTTP: Ray Serve deployments and the shapes of requests and answers."""
