"""The topics of a namespace: names, keys, partitions, identity, and what is recorded about them."""
