"""Scoring catalogs: manifests in object storage to scores in object storage, through Ray Data."""
