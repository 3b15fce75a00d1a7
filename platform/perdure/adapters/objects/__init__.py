"""Large payloads in a file system of fsspec: a directory, S3, and others."""
