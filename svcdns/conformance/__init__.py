"""The conformance suite: tests any cluster DNS server by its replies.

The suite sends DNS queries to a server. With a kubeconfig it also writes to the API server that the DNS server watches.
The expected replies follow from a model of the cluster (`cluster_model`) and from the rules of the specification
(`expected`). The suite does not use svcdns's own code for replies, so that an error in that code cannot hide itself.
"""
