"""The conformance suite: tests any cluster DNS server by its responses.

It sends DNS queries to a server. With a kubeconfig it also writes to the API server that the DNS server watches. The
expected responses follow from a model of the cluster (`cluster_model`) and the rules of the specification (`expected`).
None of the server's own code for responses is used, so that the suite does not share the server's errors.
"""
