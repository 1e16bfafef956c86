"""Where catalogs, manifests, scorers and scores may be: said in full.

A job that is submitted runs in a temporary folder of the cluster's, each worker in one of its own.
What is written below such a folder is lost, and what is read there is another one than meant.
"""

from typing import Annotated

from pydantic import AfterValidator


def in_full(location: str) -> str:
    """The location.

    Raises:
        ValueError: it is relative, of a scheme that is no storage, or names no bucket.
    """
    scheme, separator, rest = location.partition("://")
    if not separator:
        scheme, rest = "file", location
    if scheme not in ("s3", "file"):
        raise ValueError(f"'{scheme}' is no storage: use s3://, file:// or a path")
    if scheme == "s3" and not rest.partition("/")[0]:
        raise ValueError("names no bucket: write s3://bucket/folder")
    if scheme == "file" and not rest.removeprefix("localhost").startswith("/"):
        raise ValueError(
            "relative to a working folder, which a job on a cluster doesn't keep: "
            "write s3://bucket/..., or the whole path from / on"
        )
    return location


Location = Annotated[str, AfterValidator(in_full)]
"""A URI, or an absolute path."""
